// What LPACoreML uses of Core ML, as declarations, so that Linux can type-check it. Nothing runs.
// Each block names the page of Apple's documentation that it was written from.

@_exported import Foundation

// https://developer.apple.com/documentation/coreml/mlcomputeunits
public enum MLComputeUnits: Int, Sendable {
  case cpuOnly = 0
  case cpuAndGPU = 1
  case all = 2
  case cpuAndNeuralEngine = 3
}

// https://developer.apple.com/documentation/coreml/mlmodelconfiguration
open class MLModelConfiguration: NSObject {
  public var computeUnits: MLComputeUnits = .all
  @available(iOS 18, macOS 15, *)
  public var functionName: String? {
    get { nil }
    set {}
  }
}

// https://developer.apple.com/documentation/coreml/mlmultiarraydatatype
public enum MLMultiArrayDataType: Int, Sendable {
  case double = 65600
  case float32 = 65568
  case float16 = 65552
  case int32 = 131104
}

// https://developer.apple.com/documentation/coreml/mlmultiarray
open class MLMultiArray: NSObject {
  public let shape: [NSNumber]
  public let dataType: MLMultiArrayDataType
  public init(shape: [NSNumber], dataType: MLMultiArrayDataType) throws {
    self.shape = shape
    self.dataType = dataType
  }
}

// https://developer.apple.com/documentation/coreml/mlmultiarray/withunsafemutablebytes(_:)
extension MLMultiArray {
  public func withUnsafeMutableBytes<R>(
    _ body: (UnsafeMutableRawBufferPointer, [Int]) throws -> R
  ) rethrows -> R {
    try body(UnsafeMutableRawBufferPointer(start: nil, count: 0), [])
  }
}

// https://developer.apple.com/documentation/coreml/mlshapedarrayscalar
public protocol MLShapedArrayScalar {}

// https://developer.apple.com/documentation/coreml/mlshapedarrayscalar (its conforming types)
extension Float: MLShapedArrayScalar {}

// https://developer.apple.com/documentation/coreml/mlshapedarray
public struct MLShapedArray<Scalar: MLShapedArrayScalar> {
  public init(converting multiArray: MLMultiArray) {}
  public var scalars: [Scalar] { [] }
}

// https://developer.apple.com/documentation/coreml/mlfeaturevalue
open class MLFeatureValue: NSObject {
  public let multiArrayValue: MLMultiArray?
  public init(multiArray value: MLMultiArray) { multiArrayValue = value }
}

// https://developer.apple.com/documentation/coreml/mlfeatureprovider
public protocol MLFeatureProvider {
  var featureNames: Set<String> { get }
  func featureValue(for featureName: String) -> MLFeatureValue?
}

// https://developer.apple.com/documentation/coreml/mldictionaryfeatureprovider
open class MLDictionaryFeatureProvider: NSObject, MLFeatureProvider {
  public init(dictionary: [String: Any]) throws {}
  public var featureNames: Set<String> { [] }
  public func featureValue(for featureName: String) -> MLFeatureValue? { nil }
}

// https://developer.apple.com/documentation/coreml/mlmultiarrayconstraint
open class MLMultiArrayConstraint: NSObject {
  public var dataType: MLMultiArrayDataType { .float32 }
  public var shape: [NSNumber] { [] }
}

// https://developer.apple.com/documentation/coreml/mlfeaturedescription
open class MLFeatureDescription: NSObject {
  public var multiArrayConstraint: MLMultiArrayConstraint? { nil }
}

// https://developer.apple.com/documentation/coreml/mlmodeldescription
open class MLModelDescription: NSObject {
  public var inputDescriptionsByName: [String: MLFeatureDescription] { [:] }
  public var outputDescriptionsByName: [String: MLFeatureDescription] { [:] }
}

// https://developer.apple.com/documentation/coreml/mlmodel
open class MLModel: NSObject, @unchecked Sendable {
  public var modelDescription: MLModelDescription { MLModelDescription() }
}

// https://developer.apple.com/documentation/coreml/mlmodel/compilemodel(at:)-6442s
extension MLModel {
  public class func compileModel(at modelURL: URL) async throws -> URL { modelURL }
}

// https://developer.apple.com/documentation/coreml/mlmodel/load(contentsof:configuration:)
extension MLModel {
  public class func load(
    contentsOf modelURL: URL, configuration: MLModelConfiguration = MLModelConfiguration()
  ) async throws -> MLModel {
    throw CocoaError(.featureUnsupported)
  }
}

// https://developer.apple.com/documentation/coreml/mlmodel/prediction(from:)-9y2aa
extension MLModel {
  public func prediction(from input: any MLFeatureProvider) async throws -> any MLFeatureProvider {
    throw CocoaError(.featureUnsupported)
  }
}
