"""What `ganzoo.metrics.text` offers."""

from ganzoo.metrics.text.bleu import bleu as bleu
from ganzoo.metrics.text.bleu import self_bleu as self_bleu
from ganzoo.metrics.text.diversity import copied_share as copied_share
from ganzoo.metrics.text.diversity import distinct_ngrams as distinct_ngrams
from ganzoo.metrics.text.diversity import distinct_sentences as distinct_sentences
from ganzoo.metrics.text.evaluate import TEXT_METRICS as TEXT_METRICS
from ganzoo.metrics.text.evaluate import evaluate_texts as evaluate_texts
from ganzoo.metrics.text.language_model import NGramModel as NGramModel
from ganzoo.metrics.text.language_model import forward_nll as forward_nll
from ganzoo.metrics.text.language_model import reverse_nll as reverse_nll
from ganzoo.metrics.text.metric import TextMetric as TextMetric
from ganzoo.metrics.text.tokens import tokenize as tokenize
