"""From pictures to a face that is followed: detectors, search, crops, tracks, and the motion of a driver."""
