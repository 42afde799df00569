"""Average precision as PASCAL VOC and COCO define it."""
