"""What `ganzoo.processors` offers."""

from ganzoo.processors.base import Processor as Processor
from ganzoo.processors.base import processor_from_json as processor_from_json
from ganzoo.processors.fitting import fit_text_processor as fit_text_processor
from ganzoo.processors.image import MAX_PIXELS as MAX_PIXELS
from ganzoo.processors.image import ImageOutput as ImageOutput
from ganzoo.processors.image import ImageProcessor as ImageProcessor
from ganzoo.processors.image import make_grid as make_grid
from ganzoo.processors.image import to_pil as to_pil
from ganzoo.processors.points import PointsOutput as PointsOutput
from ganzoo.processors.points import PointsProcessor as PointsProcessor
from ganzoo.processors.spectrogram import SpectrogramProcessor as SpectrogramProcessor
from ganzoo.processors.text import TextOutput as TextOutput
from ganzoo.processors.text import TextProcessor as TextProcessor
from ganzoo.processors.waveform import AudioOutput as AudioOutput
from ganzoo.processors.waveform import WaveformProcessor as WaveformProcessor
from ganzoo.utils.layout import PROCESSOR_FILE as PROCESSOR_FILE
from ganzoo.utils.modalities import PROCESSORS as PROCESSORS
