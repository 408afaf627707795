"""XML and folders in the exact layout of PASCAL VOC and of ImageNet, which writes the same XML."""

from __future__ import annotations

import numpy as np

from tests.pipelines.shards.pictures import make_jpeg, make_palette_png, write


def write_xml(name, objects, *, size=(50, 40), folder="VOC2007", segmented=0):
    width, height = size
    return f"""<annotation>
	<folder>{folder}</folder>
	<filename>{name}</filename>
	<source>
		<database>The VOC2007 Database</database>
		<annotation>PASCAL VOC2007</annotation>
		<image>flickr</image>
		<flickrid>325991873</flickrid>
	</source>
	<owner>
		<flickrid>archintent louisville</flickrid>
		<name>?</name>
	</owner>
	<size>
		<width>{width}</width>
		<height>{height}</height>
		<depth>3</depth>
	</size>
	<segmented>{segmented}</segmented>
{"".join(objects)}</annotation>
"""


def write_object(name, box, *, difficult=0, truncated=0, more=""):
    return f"""	<object>
		<name>{name}</name>
		<pose>Rear</pose>
		<truncated>{truncated}</truncated>
		<difficult>{difficult}</difficult>
{write_box(box)}{more}	</object>
"""


def write_bare_object(name, box):
    """Without flags, as in ImageNet's detection set."""
    return f"	<object>\n		<name>{name}</name>\n{write_box(box)}	</object>\n"


def write_box(box):
    corners = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    inner = "".join(f"			<{name}>{value}</{name}>\n" for name, value in corners)
    return f"		<bndbox>\n{inner}		</bndbox>\n"


def write_part(name, box):
    return f"		<part>\n			<name>{name}</name>\n{write_box(box)}		</part>\n"


def build_voc2007(root):
    """VOCdevkit/VOC2007: two training images, one of test."""
    year = root / "VOCdevkit" / "VOC2007"
    for split, names in {"train": ["000012", "000005"], "test": ["000001"]}.items():
        write(year / "ImageSets/Main" / f"{split}.txt", "".join(f"{name}\n" for name in names))
    write(year / "ImageSets/Main/chair_train.txt", "000012 -1\n000005  1\n")
    for seed, name in enumerate(["000001", "000005", "000012"]):
        write(year / "JPEGImages" / f"{name}.jpg", make_jpeg(seed=seed))
    chairs = [
        write_object("chair", (13, 22, 45, 40)),
        write_object("chair", (1, 1, 10, 10), difficult=1, truncated=1),
    ]
    write(year / "Annotations/000005.xml", write_xml("000005.jpg", chairs))
    parts = write_part("head", (11, 11, 14, 15)) + write_part("hand", (20, 20, 22, 22))
    person = write_object("person", (11, 11, 30, 30), more=parts)
    write(year / "Annotations/000012.xml", write_xml("000012.jpg", [person]))
    dog = write_object("dog", (3, 4, 5, 6))
    write(year / "Annotations/000001.xml", write_xml("000001.jpg", [dog]))
    return year


def build_voc2012(root):
    """VOCdevkit/VOC2012: one image with masks, one with actions and corners between pixels."""
    year = root / "VOCdevkit" / "VOC2012"
    write(year / "ImageSets/Main/train.txt", "2007_000032\n2010_006215\n")
    write(year / "ImageSets/Segmentation/train.txt", "2007_000032\n")
    write(year / "ImageSets/Action/train.txt", "2010_006215  1\n2010_006215  2\n")
    write(year / "JPEGImages/2007_000032.jpg", make_jpeg(seed=1))
    write(year / "JPEGImages/2010_006215.jpg", make_jpeg(seed=2))
    planes = [
        write_object("aeroplane", (6, 11, 20, 20)),
        write_object("person", (31, 1, 32, 4)),
        write_object("aeroplane", (21, 21, 30, 30)),
    ]
    xml = write_xml("2007_000032.jpg", planes, folder="VOC2012", segmented=1)
    write(year / "Annotations/2007_000032.xml", xml)
    write(year / "SegmentationObject/2007_000032.png", make_palette_png(make_object_numbers()))
    actions = "".join(f"<{name}>{done}</{name}>" for name, done in (("jumping", 1), ("reading", 0)))
    actions = f"		<actions>{actions}</actions>\n"
    jumper = write_object("person", (10.5, 5, 30.25, 40), more=actions)
    xml = write_xml("2010_006215.jpg", [jumper], folder="VOC2012")
    write(year / "Annotations/2010_006215.xml", xml)
    return year


def make_object_numbers():
    """The first and third object, with a void pixel; the second has no mask."""
    numbers = np.zeros((40, 50), np.uint8)
    numbers[10:20, 5:20] = 1
    numbers[20:30, 20:30] = 3
    numbers[20, 20] = 255
    return numbers
