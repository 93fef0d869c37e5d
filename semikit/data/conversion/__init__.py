"""Labels of other programs (COCO, LabelMe, YOLO, CVAT, VOC, colours, polygons on maps) as masks of class numbers."""
