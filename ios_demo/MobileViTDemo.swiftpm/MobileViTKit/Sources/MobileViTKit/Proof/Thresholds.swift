/// What the answers of a precision must reach, as the SDK's own gate has it by default. The app's verdict is a preview:
/// `mobilevit verify --device-report` judges the same answers, by the project's own thresholds.
public struct Threshold: Equatable, Sendable {
    /// Minimum SQNR of the worst case, in dB.
    public let sqnrDB: Double
    /// Minimum share of the cases with the same best class.
    public let top1Agreement: Double
    /// Whether edge cases, such as noise, count. They do not where ranges were found on images.
    public let countsEdgeCases: Bool

    public static let byPrecision: [String: Threshold] = [
        "fp32": Threshold(sqnrDB: 90, top1Agreement: 1.0, countsEdgeCases: true),
        "fp16": Threshold(sqnrDB: 40, top1Agreement: 0.99, countsEdgeCases: true),
        "int8": Threshold(sqnrDB: 3, top1Agreement: 0.6, countsEdgeCases: false),
        "int8-dynamic": Threshold(sqnrDB: 6, top1Agreement: 0.75, countsEdgeCases: false),
        "int8-weight": Threshold(sqnrDB: 6, top1Agreement: 0.75, countsEdgeCases: false),
        "int4-weight": Threshold(sqnrDB: 0, top1Agreement: 0.5, countsEdgeCases: false),
    ]
}
