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
        let data = Data(data)  // indices from 0, whatever slice was given
        func refuse(_ what: String) -> KitError { .artifact("\(name) is not a safetensors file (\(what))") }
        guard data.count >= 8 else { throw refuse("\(data.count) bytes") }
        let length = data.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard length <= UInt64(Self.maxHeaderBytes), Int(length) <= data.count - 8 else {
            throw refuse("its header of \(length) bytes is cut short or too long")
        }
        let begin = 8 + Int(length)
        var tensors: [String: Tensor] = [:], metadata: [String: String] = [:]
        for (key, node) in try JSONNode(data[8..<begin], file: name).object() {
            if key == "__metadata__" {
                metadata = try node.object().mapValues { try $0.text() }
                continue
            }
            let dtype = try node["dtype"].choice(DType.self)
            let shape = try node["shape"].list().map { try $0.integer() }
            let offsets = try node["data_offsets"].list().map { try $0.integer() }
            guard shape.count <= 8, let size = product(shape, dtype.bytes), offsets.count == 2,
                0 <= offsets[0], offsets[0] <= offsets[1], offsets[1] <= data.count - begin,
                offsets[1] - offsets[0] == size
            else { throw refuse("tensor \"\(key)\" does not fit its shape or the file") }
            tensors[key] = Tensor(dtype: dtype, shape: shape, range: begin + offsets[0]..<begin + offsets[1])
        }
        var end = begin
        for range in tensors.values.map(\.range).sorted(by: {
            ($0.lowerBound, $0.upperBound) < ($1.lowerBound, $1.upperBound)
        }) {
            guard range.lowerBound == end else { throw refuse("its tensors overlap or leave gaps") }
            end = range.upperBound
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
