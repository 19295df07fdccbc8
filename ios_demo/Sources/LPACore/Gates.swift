/// The numbers that an artifact must reach, as its bundle states them; nil: no such gate.
public struct Gates: Sendable, Equatable {
  /// dB between logits; below fails.
  public let psnrDB: Double?
  /// dB; below is remarked upon, without failing.
  public let psnrFlagDB: Double?
  /// Share of frames with the same best token; below fails.
  public let argmaxAgreement: Double?
  /// Percentage points of WER above the reference; above fails.
  public let werDifferencePoints: Double
  /// Percent; a model with a higher WER is no recogniser.
  public let referenceWERCeiling: Double

  public init(
    psnrDB: Double?, psnrFlagDB: Double? = nil, argmaxAgreement: Double?,
    werDifferencePoints: Double, referenceWERCeiling: Double = 30
  ) {
    self.psnrDB = psnrDB
    self.psnrFlagDB = psnrFlagDB
    self.argmaxAgreement = argmaxAgreement
    self.werDifferencePoints = werDifferencePoints
    self.referenceWERCeiling = referenceWERCeiling
  }

  static let keys: Set = [
    "argmax_agreement", "compressed_share", "padding_psnr_db", "psnr_db", "psnr_flag_db",
    "reference_wer_ceiling", "wer_difference_points",
  ]

  init(_ fields: Fields) throws {
    psnrDB = try fields.optionalNumber("psnr_db")
    psnrFlagDB = try fields.optionalNumber("psnr_flag_db")
    argmaxAgreement = try fields.optionalNumber("argmax_agreement")
    werDifferencePoints = try fields.number("wer_difference_points")
    referenceWERCeiling = try fields.optionalNumber("reference_wer_ceiling") ?? 30
  }
}
