# a and b have a path, c gets it from one of them; slowly, so that there is time to take that one away.
{
  nodes = {
    a.services.peernix.settings.share.upload_limit = "8MiB";
    b.services.peernix.settings.share.upload_limit = "8MiB";
    c = {};
  };
}
