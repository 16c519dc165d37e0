"""The options of the fast-rcnn tools: ``--cfg file.yml`` and ``--set KEY VALUE``.

Keys and defaults are those of the ``distillation`` branch of the authors' fast-rcnn; an attribute has the key's name in
lower case (``TRAIN.FG_THRESH`` is ``config.train.fg_thresh``).  A :class:`Config` is frozen and handed to whoever needs
it; there is no global one.  A new key is a field of its class in ``sections.py``, with a line of the class's docstring
and its check; reading, writing and ``--set`` follow from that.
"""

from caffe_compat.config.document import load_config, write_config
from caffe_compat.config.options import Config, without_detection
from caffe_compat.config.sections import SdsConfig, TestConfig, TrainConfig

__all__ = ["Config", "SdsConfig", "TestConfig", "TrainConfig", "load_config", "without_detection", "write_config"]
