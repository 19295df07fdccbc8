// What the app uses of AVFoundation, as declarations, so that Linux can type-check it. Nothing runs.
// Each block names the page of Apple's documentation that it was written from.

@_exported import Foundation

// https://developer.apple.com/documentation/avfaudio/avaudioframecount
public typealias AVAudioFrameCount = UInt32

// https://developer.apple.com/documentation/avfaudio/avaudioframeposition
public typealias AVAudioFramePosition = Int64

// https://developer.apple.com/documentation/avfaudio/avaudionodebus
public typealias AVAudioNodeBus = Int

// https://developer.apple.com/documentation/avfaudio/avaudiochannelcount
public typealias AVAudioChannelCount = UInt32

// https://developer.apple.com/documentation/avfaudio/avaudioformat
open class AVAudioFormat: NSObject {
  public var sampleRate: Double { 0 }
  public var channelCount: AVAudioChannelCount { 0 }
}

// https://developer.apple.com/documentation/avfaudio/avaudiobuffer
open class AVAudioBuffer: NSObject {
  public var format: AVAudioFormat { AVAudioFormat() }
}

// https://developer.apple.com/documentation/avfaudio/avaudiopcmbuffer
open class AVAudioPCMBuffer: AVAudioBuffer {
  public init?(pcmFormat format: AVAudioFormat, frameCapacity: AVAudioFrameCount) { nil }
  public var frameLength: AVAudioFrameCount {
    get { 0 }
    set {}
  }
  public var floatChannelData: UnsafePointer<UnsafeMutablePointer<Float>>? { nil }
}

// https://developer.apple.com/documentation/avfaudio/avaudiotime
open class AVAudioTime: NSObject {}

// https://developer.apple.com/documentation/avfaudio/avaudionodetapblock
public typealias AVAudioNodeTapBlock = @Sendable (AVAudioPCMBuffer, AVAudioTime) -> Void

// https://developer.apple.com/documentation/avfaudio/avaudionode
open class AVAudioNode: NSObject {
  public func outputFormat(forBus bus: AVAudioNodeBus) -> AVAudioFormat { AVAudioFormat() }
  public func installTap(
    onBus bus: AVAudioNodeBus, bufferSize: AVAudioFrameCount, format: AVAudioFormat?,
    block tapBlock: @escaping AVAudioNodeTapBlock
  ) {}
  public func removeTap(onBus bus: AVAudioNodeBus) {}
}

// https://developer.apple.com/documentation/avfaudio/avaudioinputnode
open class AVAudioInputNode: AVAudioNode {}

// https://developer.apple.com/documentation/avfaudio/avaudioengine
open class AVAudioEngine: NSObject {
  public var inputNode: AVAudioInputNode { AVAudioInputNode() }
  public func prepare() {}
  public func start() throws {}
  public func stop() {}
}

// https://developer.apple.com/documentation/foundation/nsnotification/name/avaudioengineconfigurationchange
extension Notification.Name {
  public static let AVAudioEngineConfigurationChange = Notification.Name(
    "AVAudioEngineConfigurationChangeNotification")
}

// https://developer.apple.com/documentation/avfaudio/avaudiofile
open class AVAudioFile: NSObject {
  public init(forReading fileURL: URL) throws { throw CocoaError(.featureUnsupported) }
  public var processingFormat: AVAudioFormat { AVAudioFormat() }
  public var length: AVAudioFramePosition { 0 }
  public func read(into buffer: AVAudioPCMBuffer) throws {}
}

// https://developer.apple.com/documentation/avfaudio/avaudioplayer
open class AVAudioPlayer: NSObject {
  public init(data: Data) throws { throw CocoaError(.featureUnsupported) }
  @discardableResult public func play() -> Bool { false }
  public func stop() {}
}

// https://developer.apple.com/documentation/avfoundation/avmediatype
public struct AVMediaType: Hashable, Sendable {
  public static let audio = AVMediaType()
}

// https://developer.apple.com/documentation/avfoundation/avcapturedevice/requestaccess(for:completionhandler:)
open class AVCaptureDevice: NSObject {
  public class func requestAccess(for mediaType: AVMediaType) async -> Bool { false }
}

// https://developer.apple.com/documentation/foundation/url/startaccessingsecurityscopedresource()
extension URL {
  public func startAccessingSecurityScopedResource() -> Bool { false }
}

// https://developer.apple.com/documentation/foundation/url/stopaccessingsecurityscopedresource()
extension URL {
  public func stopAccessingSecurityScopedResource() {}
}
