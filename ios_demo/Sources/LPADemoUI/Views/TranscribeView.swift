import LPACore
import SwiftUI
import UniformTypeIdentifiers

struct TranscribeView: View {
  let model: TranscribeModel
  @State private var choosesFile = false

  var body: some View {
    NavigationStack {
      List {
        Section("Listen") { controls }
        if let notice = model.notice {
          Section { Text(notice).foregroundStyle(.orange) }
        }
        if let transcript = model.transcript { TranscriptSection(transcript, play: model.play) }
      }
      .navigationTitle("Transcribe")
      .fileImporter(isPresented: $choosesFile, allowedContentTypes: [.audio]) { result in
        if case .success(let file) = result { model.importFile(file) }
      }
    }
  }

  @ViewBuilder private var controls: some View {
    switch model.phase {
    case .recording:
      HStack {
        Button("Stop") { model.stop() }
        ProgressView(value: Double(model.level))
          .accessibilityLabel("Level of the microphone")
        Text("\(model.recordedSeconds, format: .number.precision(.fractionLength(1))) s")
          .monospacedDigit()
      }
    case .working(let share):
      HStack {
        ProgressView(value: share)
        Button("Cancel") { model.cancel() }
      }
    case .idle, .done, .failed:
      Button("Record") { model.record() }.disabled(!model.isReady)
      Button("Open a file") { choosesFile = true }.disabled(!model.isReady)
      if !model.isReady { Text("The model is not ready yet").foregroundStyle(.secondary) }
      if case .failed(let why) = model.phase { Text(why).foregroundStyle(.red) }
    }
  }
}

/// Words with their times; seams of long recordings stand between them.
private struct TranscriptSection: View {
  private let transcript: Transcript
  private let play: @MainActor (Word) -> Void

  init(_ transcript: Transcript, play: @escaping @MainActor (Word) -> Void) {
    self.transcript = transcript
    self.play = play
  }

  private struct Row: Identifiable {
    let id: Int
    let word: Word?
    let seam: Double?
  }

  /// Words and seams in the order of time.
  private var rows: [Row] {
    var rows: [Row] = []
    var seams = transcript.seams[...]
    for word in transcript.words {
      while let seam = seams.first, seam <= word.start {
        rows.append(Row(id: rows.count, word: nil, seam: seam))
        seams.removeFirst()
      }
      rows.append(Row(id: rows.count, word: word, seam: nil))
    }
    return rows
  }

  var body: some View {
    Section("Text") {
      Text(transcript.text).textSelection(.enabled)
      ShareLink("Share the text", item: transcript.text)
      ShareLink("Share subtitles (SRT)", item: transcript.srt())
    }
    Section("Words") {
      ForEach(rows) { row in
        if let word = row.word {
          Button {
            play(word)
          } label: {
            HStack {
              Text(word.text)
              Spacer()
              Text("\(word.start, format: .number.precision(.fractionLength(2))) s")
                .monospacedDigit()
                .foregroundStyle(.secondary)
            }
          }
        } else if let seam = row.seam {
          Text("cut at \(seam, format: .number.precision(.fractionLength(2))) s")
            .font(.caption)
            .foregroundStyle(.secondary)
        }
      }
    }
  }
}
