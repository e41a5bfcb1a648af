# One machine whose store is cleaned up, and one that it sends to; slowly, so that there is a transfer meanwhile.
{
  timeout = 90;
  nodes = {
    source.services.peernix.settings.share.upload_limit = "2MiB";
    receiver = {};
  };
}
