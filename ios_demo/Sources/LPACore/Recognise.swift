import Foundation

/// Transcribes speech with known texts and counts the word errors.
///
/// `progress` is told the share that is done. Raises LpaError, beginning with the utterance's id,
/// for audio that cannot be used.
public func recognise(
  _ utterances: [Utterance], dataName: String, bundle: LPABundle, runner: some ModelRunner,
  progress: @Sendable (Double) -> Void = { _ in }
) async throws -> DeviceReport.Recognition {
  let vocabulary = try bundle.vocabulary()
  var transcripts: [(id: String, text: String, transcript: String)] = []
  for (index, utterance) in utterances.enumerated() {
    do {
      let waveform = try loadWaveform(utterance.audio, at: bundle.manifest.sampleRate)
      try bundle.manifest.requireFrames(waveform.count, atMost: runner.maxSamples)
      let heard = try vocabulary.text(try await runner.logits(waveform))
      transcripts.append((utterance.id, utterance.text, heard))
    } catch {
      throw LpaError("\(utterance.id): \(error.oneLine)")
    }
    progress(Double(index + 1) / Double(utterances.count))
  }
  return DeviceReport.Recognition(
    runtime: runner.runtime, dataName: dataName, dataSha256: try dataHash(utterances),
    errors: try WordErrors(
      texts: transcripts.map(\.text), transcripts: transcripts.map(\.transcript),
      rule: bundle.manifest.textRule),
    transcripts: transcripts)
}
