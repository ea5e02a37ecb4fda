import Foundation

#if canImport(CryptoKit)
import CryptoKit
#endif

/// SHA-256 as the SDK uses it: CryptoKit's on Apple's systems, and one of this package elsewhere.
public enum SHA256Digest {
    /// 64 lowercase hexadecimal digits.
    public static func hex(of data: Data) -> String {
        var hash = Hash()
        hash.update(data: data)
        return hex(hash.finalize())
    }

    private static func hex(_ digest: some Sequence<UInt8>) -> String {
        digest.map { String(UInt16($0) | 0x100, radix: 16).dropFirst() }.joined()
    }

    /// Digest and size of a file, or of a package folder: the names and contents of its files in sorted order.
    ///
    /// Throws `KitError.artifact` where one cannot be read.
    public static func hashAndSize(of url: URL) throws -> (sha256: String, bytes: Int) {
        var hash = Hash(), size = 0
        for (name, file) in try files(of: url) {
            if let name { hash.update(data: Data(name.utf8) + [0]) }
            guard let handle = try? FileHandle(forReadingFrom: file) else { throw unreadable(file) }
            defer { try? handle.close() }
            while true {
                let chunk: Data
                do { chunk = try handle.read(upToCount: 1 << 20) ?? Data() } catch { throw unreadable(file) }
                if chunk.isEmpty { break }
                hash.update(data: chunk)
                size += chunk.count
            }
        }
        return (hex(hash.finalize()), size)
    }

    /// The file without a name, or the files below a folder by their paths from there, sorted component by component.
    private static func files(of url: URL) throws -> [(String?, URL)] {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else { throw unreadable(url) }
        guard isFolder.boolValue else { return [(nil, url)] }
        var found: [[String]] = []
        func walk(_ folder: [String]) throws {
            guard folder.count < 32 else { throw unreadable(url) }
            let place = folder.reduce(url) { $0.appendingPathComponent($1) }
            guard let names = try? FileManager.default.contentsOfDirectory(atPath: place.path) else {
                throw unreadable(place)
            }
            for name in names {
                var inner: ObjCBool = false
                let exists = FileManager.default.fileExists(
                    atPath: place.appendingPathComponent(name).path, isDirectory: &inner)
                if exists, inner.boolValue { try walk(folder + [name]) } else { found.append(folder + [name]) }
            }
        }
        try walk([])
        found.sort {
            $0.lexicographicallyPrecedes($1) {
                Array($0.unicodeScalars.map(\.value)).lexicographicallyPrecedes($1.unicodeScalars.map(\.value))
            }
        }
        return found.map { ($0.joined(separator: "/"), $0.reduce(url) { $0.appendingPathComponent($1) }) }
    }

    private static func unreadable(_ url: URL) -> KitError { .artifact("\(url.lastPathComponent) cannot be read") }

    #if canImport(CryptoKit)
    private typealias Hash = SHA256
    #else
    private typealias Hash = PortableSHA256
    #endif
}

/// FIPS 180-4, for systems without CryptoKit. Its interface is the part of CryptoKit's `SHA256` that is used here.
struct PortableSHA256 {
    private var state: [UInt32] = [
        0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
    ]
    private var schedule = [UInt32](repeating: 0, count: 64)
    private var pending: [UInt8] = []
    private var length: UInt64 = 0  // in bytes

    mutating func update(data: Data) {
        length &+= UInt64(data.count)
        pending.append(contentsOf: data)
        pending.withUnsafeBufferPointer { bytes in
            for start in stride(from: 0, through: bytes.count - 64, by: 64) {
                Self.compress(UnsafeBufferPointer(rebasing: bytes[start..<start + 64]), &state, &schedule)
            }
        }
        pending.removeFirst(pending.count / 64 * 64)
    }

    func finalize() -> [UInt8] {
        var last = self
        let bits = length &* 8
        var padding: [UInt8] = [0x80]
        padding += [UInt8](repeating: 0, count: (119 - Int(length % 64)) % 64)
        padding += (0..<8).map { UInt8(truncatingIfNeeded: bits >> UInt64(56 - 8 * $0)) }
        last.update(data: Data(padding))
        return last.state.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32(24 - 8 * $0)) } }
    }

    private static func compress(_ block: UnsafeBufferPointer<UInt8>, _ state: inout [UInt32], _ w: inout [UInt32]) {
        func rotate(_ x: UInt32, _ by: UInt32) -> UInt32 { x >> by | x << (32 - by) }
        for i in 0..<16 {
            w[i] = (0..<4).reduce(0) { $0 << 8 | UInt32(block[4 * i + $1]) }
        }
        for i in 16..<64 {
            let s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3
            let s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10
            w[i] = w[i - 16] &+ s0 &+ w[i - 7] &+ s1
        }
        var (a, b, c, d) = (state[0], state[1], state[2], state[3])
        var (e, f, g, h) = (state[4], state[5], state[6], state[7])
        for i in 0..<64 {
            let s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)
            let t1 = h &+ s1 &+ (e & f ^ ~e & g) &+ constants[i] &+ w[i]
            let t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) &+ (a & b ^ a & c ^ b & c)
            (h, g, f, e, d, c, b, a) = (g, f, e, d &+ t1, c, b, a, t1 &+ t2)
        }
        for (i, value) in [a, b, c, d, e, f, g, h].enumerated() { state[i] = state[i] &+ value }
    }

    /// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
    private static let constants: [UInt32] = [
        0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
        0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
        0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
        0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
        0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
        0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
        0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
        0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
    ]
}
