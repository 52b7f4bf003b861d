"""Every error that a user can cause, as one tree.

    TalkingHeadsError                   catch this one to catch them all
    |-- FaceError                       something about the faces in the input
    |   |-- NoFaceError                 no face where one is needed
    |   `-- SeveralFacesError           more than one face where the choice is not ours
    |-- UnreadableMediaError            a file that is missing, broken, empty, or not what its name says
    |-- OutputError                     a result cannot be written: permission, full disk, wrong suffix
    |-- InvalidModelError               a model or avatar folder with missing, extra or foreign weights
    |-- IncompatibleAvatarError         an avatar that another model made
    |-- HubError                        a push that the Hub refuses: token, permission, name, network
    `-- MissingDependencyError          an optional package or its weights are not installed

Messages are sentences that a visitor can act on: what is wrong, then what to do. Misuse by a programmer (a wrong
shape, a negative number of steps) raises ValueError instead.
"""


class TalkingHeadsError(Exception):
    """Base of all errors that carry a sentence for the user."""


class FaceError(TalkingHeadsError):
    """Something about the faces in the input."""


class NoFaceError(FaceError):
    """No face was found where one is needed."""


class SeveralFacesError(FaceError):
    """A photo shows more than one face of similar size."""


class UnreadableMediaError(TalkingHeadsError):
    """A photo or clip is missing, broken, empty, or not what its name says."""


class OutputError(TalkingHeadsError):
    """A result cannot be written."""


class InvalidModelError(TalkingHeadsError):
    """A model or avatar folder is incomplete, foreign, or newer than this software."""


class IncompatibleAvatarError(TalkingHeadsError):
    """An avatar was made by another model than the one that shall paint it."""


class HubError(TalkingHeadsError):
    """Something cannot be pushed to the Hugging Face Hub."""


class MissingDependencyError(TalkingHeadsError):
    """An optional package, or weights that it needs, are not installed."""
