# c gets a path that a and b have; slowly, so that there is time to cut the network.
{
  nodes = {
    a.services.peernix.settings.share.upload_limit = "8MiB";
    b.services.peernix.settings.share.upload_limit = "8MiB";
    c = {};
  };
}
