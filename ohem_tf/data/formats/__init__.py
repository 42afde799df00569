"""Data as labelling tools write it: YOLO, CVAT, LabelMe, Label Studio, Open Images, plain VOC."""
