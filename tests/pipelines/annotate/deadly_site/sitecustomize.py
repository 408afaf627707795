"""Python runs this when it starts with this folder on its path."""

from tests.pipelines.annotate import deadly

# The folder is on the path already, which otherwise tells that it has been done.
deadly._SITE = ""
deadly.install()
