"""From activity to what an instrument measures: BOLD, EEG and MEG of a spherical head, LFP, fewer samples.

Recordings (`BOLD`, `EEG`, `LFP`, `Downsampled`) measure within a run, functions what was recorded.

Spectra, connectivity and phases of the signals come from libraries such as scipy and nilearn.
"""

from ._balloon import Balloon as Balloon, bold as bold
from ._downsample import downsample as downsample
from ._recordings import BOLD as BOLD, EEG as EEG, LFP as LFP, Downsampled as Downsampled
from ._sphere import eeg_lead_field as eeg_lead_field, meg_lead_field as meg_lead_field
