"""What a test may fail with."""


class TestError(Exception):
    """The test failed: something was not as the script requires. Shown without a traceback of the driver."""


class NotSupported(Exception):
    """The back end cannot do what was asked. A test that needs it should say so in its `needs`."""
