"""What a test may fail with."""


class TestError(Exception):
    """The test failed: something was not as the script requires. Shown without a traceback of the driver."""
