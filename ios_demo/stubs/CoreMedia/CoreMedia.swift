@_exported import CoreVideo

public class CMSampleBuffer {}
extension CMSampleBuffer {
    public var imageBuffer: CVImageBuffer? { fatalError() }
}
public func CMSampleBufferGetImageBuffer(_ sbuf: CMSampleBuffer) -> CVImageBuffer? { fatalError() }
