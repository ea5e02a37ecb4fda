import Foundation

extension AppInput {
    /// The part of an upright picture that the model gets, as Vision wants its `regionOfInterest`: from 0 to 1, the origin at
    /// the lower left. With it, `VNCoreMLRequest` scales that part alone, by `imageCropAndScaleOption = .scaleFill`.
    ///
    /// The part is that of the manifest to a fraction of a pixel; the filter is Vision's own. Sizes are positive.
    public func visionRegion(width: Int, height: Int) -> CGRect {
        precondition(width > 0 && height > 0, "a picture has pixels")
        guard resizing.mode == .shorterSide else { return CGRect(x: 0, y: 0, width: 1, height: 1) }
        let scale = max(
            Double(resizing.size[0]) / Double(min(width, height)),
            Double(self.width) / Double(width), Double(self.height) / Double(height)
        )
        let resizedWidth = max(self.width, Int((Double(width) * scale).rounded(.toNearestOrEven)))
        let resizedHeight = max(self.height, Int((Double(height) * scale).rounded(.toNearestOrEven)))
        let left = (resizedWidth - self.width) / 2, top = (resizedHeight - self.height) / 2
        let below = resizedHeight - self.height - top
        return CGRect(
            x: Double(left) / Double(resizedWidth), y: Double(below) / Double(resizedHeight),
            width: Double(self.width) / Double(resizedWidth), height: Double(self.height) / Double(resizedHeight)
        )
    }
}
