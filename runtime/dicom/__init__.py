"""DICOM in and out: the ``[dicom]`` extra reads images, ``[dicom-out]`` answers in DICOM and listens on a network."""
