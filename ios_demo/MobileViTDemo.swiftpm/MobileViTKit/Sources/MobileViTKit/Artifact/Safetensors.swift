import Foundation

/// A safetensors file in memory: an 8-byte length, a JSON header, and the raw bytes of the tensors.
public struct Safetensors: Sendable {
    public enum DType: String, Sendable {
        case u8 = "U8", f32 = "F32"

        var bytes: Int { self == .u8 ? 1 : 4 }
    }

    public struct Tensor: Equatable, Sendable {
        public let dtype: DType
        public let shape: [Int]
        /// Where its bytes are in the file.
        let range: Range<Int>
    }

    public let tensors: [String: Tensor]
    /// `__metadata__`; empty where the file has none.
    public let metadata: [String: String]
    private let data: Data
    private let name: String

    static let maxHeaderBytes = 16 << 20

    /// Reads the header and checks that the tensors fill the rest of the file without gap or overlap.
    ///
    /// Throws `KitError.artifact` that names the file as `name`. Only U8 and F32, which the SDK writes, are read.
    public init(data: Data, name: String) throws {
        let data = Data(data) // indices from 0, whatever slice was given
        func refuse(_ what: String) -> KitError { .artifact("\(name) is not a safetensors file (\(what))") }
        guard data.count >= 8 else { throw refuse("\(data.count) bytes") }
        let length = data.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard length <= UInt64(Self.maxHeaderBytes), Int(length) <= data.count - 8 else {
            throw refuse("its header of \(length) bytes is cut short or too long")
        }
        let begin = 8 + Int(length)
        guard let header = (try? JSONDecoder().decode([String: Entry].self, from: data[8..<begin])) else {
            throw refuse("its header is malformed")
        }
        var tensors: [String: Tensor] = [:], metadata: [String: String] = [:]
        for (key, entry) in header {
            switch entry {
            case .metadata(let texts):
                metadata = texts
            case .tensor(let dtype, let shape, let offsets):
                guard let dtype = DType(rawValue: dtype) else {
                    throw refuse("tensor \"\(key)\" has the dtype \"\(dtype)\", which is neither U8 nor F32")
                }
                guard shape.count <= 8, let size = product(shape, dtype.bytes), offsets.count == 2,
                    0 <= offsets[0], offsets[0] <= offsets[1], offsets[1] <= data.count - begin,
                    offsets[1] - offsets[0] == size
                else { throw refuse("tensor \"\(key)\" does not fit its shape or the file") }
                tensors[key] = Tensor(dtype: dtype, shape: shape, range: begin + offsets[0]..<begin + offsets[1])
            }
        }
        var end = begin
        for tensor in tensors.values.sorted(by: { ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound) }) {
            guard tensor.range.lowerBound == end else { throw refuse("its tensors overlap or leave gaps") }
            end = tensor.range.upperBound
        }
        guard end == data.count else { throw refuse("\(data.count - end) bytes follow its tensors") }
        self.tensors = tensors
        self.metadata = metadata
        self.data = data
        self.name = name
    }

    /// The values of a U8 tensor in row-major order. Throws `KitError.artifact` where there is none of that name.
    public func bytes(_ tensor: String) throws -> [UInt8] {
        [UInt8](data[try find(tensor, .u8).range])
    }

    /// The values of an F32 tensor in row-major order. Throws `KitError.artifact` where there is none of that name.
    public func floats(_ tensor: String) throws -> [Float] {
        let range = try find(tensor, .f32).range
        return data.withUnsafeBytes { all in
            stride(from: range.lowerBound, to: range.upperBound, by: 4).map {
                Float(bitPattern: UInt32(littleEndian: all.loadUnaligned(fromByteOffset: $0, as: UInt32.self)))
            }
        }
    }

    private func find(_ key: String, _ dtype: DType) throws -> Tensor {
        guard let tensor = tensors[key], tensor.dtype == dtype else {
            throw KitError.artifact("\(name) has no tensor \"\(key)\" of dtype \(dtype.rawValue)")
        }
        return tensor
    }
}

/// A member of the header: `__metadata__` or a tensor. Two tensors of one name overlap or leave a gap, and are refused.
private enum Entry: Decodable {
    case metadata([String: String])
    case tensor(dtype: String, shape: [Int], offsets: [Int])

    enum CodingKeys: String, CodingKey {
        case dtype, shape
        case offsets = "data_offsets"
    }

    init(from decoder: Decoder) throws {
        if decoder.codingPath.last?.stringValue == "__metadata__" {
            self = .metadata(try decoder.singleValueContainer().decode([String: String].self))
            return
        }
        let members = try decoder.container(keyedBy: CodingKeys.self)
        self = .tensor(
            dtype: try members.decode(String.self, forKey: .dtype),
            shape: try members.decode([Int].self, forKey: .shape),
            offsets: try members.decode([Int].self, forKey: .offsets)
        )
    }
}

/// The product of sizes and `factor`; nil where a size is negative or the product is no Int.
func product(_ sizes: [Int], _ factor: Int = 1) -> Int? {
    var result = factor
    for size in sizes {
        let (next, overflow) = result.multipliedReportingOverflow(by: size)
        guard size >= 0, !overflow else { return nil }
        result = next
    }
    return result
}
