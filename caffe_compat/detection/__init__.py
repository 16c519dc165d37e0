"""Fast R-CNN on one or several modalities, as the distillation branch of fast-rcnn trains and tests it."""
