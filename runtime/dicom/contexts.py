"""What a node negotiates: the kinds of image it takes, and the transfer syntaxes whose pixels it can read."""

from __future__ import annotations

from .decoding import is_read

# Radiography, mammography, CT, MR, ultrasound, secondary capture; by pydicom's names.
_KINDS = (
    *("ComputedRadiographyImageStorage", "DigitalXRayImageStorageForPresentation"),
    *("DigitalXRayImageStorageForProcessing", "DigitalMammographyXRayImageStorageForPresentation"),
    *("DigitalMammographyXRayImageStorageForProcessing", "CTImageStorage", "EnhancedCTImageStorage"),
    *("MRImageStorage", "EnhancedMRImageStorage", "UltrasoundImageStorage", "UltrasoundMultiFrameImageStorage"),
    *("SecondaryCaptureImageStorage", "MultiFrameGrayscaleByteSecondaryCaptureImageStorage"),
    *("MultiFrameGrayscaleWordSecondaryCaptureImageStorage", "MultiFrameTrueColorSecondaryCaptureImageStorage"),
)
# Not the deflated one: it unpacks to any size before it can be looked at.
_PLAIN = ("ExplicitVRLittleEndian", "ImplicitVRLittleEndian")


def image_kinds() -> tuple[str, ...]:
    """SOP class UIDs of the images a node takes."""
    return tuple(_uid(name) for name in _KINDS)


def readable_syntaxes() -> list[str]:
    """Transfer syntax UIDs whose pixels are read here: an association for another one is refused, so that a sender that
    can decompresses before it sends."""
    from pydicom import uid

    families = (uid.JPEGTransferSyntaxes, uid.JPEGLSTransferSyntaxes, uid.JPEG2000TransferSyntaxes)
    compressed = [str(syntax) for family in (*families, uid.RLETransferSyntaxes) for syntax in family]
    compressed += [_uid(name) for name in ("HTJ2KLossless", "HTJ2KLosslessRPCL", "HTJ2K")]
    return [_uid(name) for name in _PLAIN] + [syntax for syntax in compressed if is_read(syntax)]


def _uid(name: str) -> str:
    from pydicom import uid

    return str(getattr(uid, name))
