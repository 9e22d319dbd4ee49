"""What is protected and at what cost: sampling, noise, accounting, calibration, the statement.

Pure arithmetic over numpy and dp_accounting; no TensorFlow.
"""

from tfpriv.privacy.accounting import Epsilon
from tfpriv.privacy.bands import fit, fit_bands
from tfpriv.privacy.ledger import Ledger
from tfpriv.privacy.mechanisms import (
    CLIP_NORMS,
    AdaptiveGaussian,
    Banded,
    Gaussian,
    Mechanism,
    Tree,
    build_mechanism,
)
from tfpriv.privacy.plan import PrivacyPlan
from tfpriv.privacy.sampling import (
    CyclicPoissonSampler,
    FixedSizeSampler,
    PoissonSampler,
    Sampler,
    ShuffledSampler,
    build_sampler,
)

__all__ = [
    "CLIP_NORMS",
    "AdaptiveGaussian",
    "Banded",
    "CyclicPoissonSampler",
    "Epsilon",
    "FixedSizeSampler",
    "Gaussian",
    "Ledger",
    "Mechanism",
    "PoissonSampler",
    "PrivacyPlan",
    "Sampler",
    "ShuffledSampler",
    "Tree",
    "build_mechanism",
    "build_sampler",
    "fit",
    "fit_bands",
]
