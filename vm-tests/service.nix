# One machine whose service is treated badly, and one that sends to it; slowly, so that a transfer can be interrupted.
{
  trees = ["trixie" "bookworm"];
  smoke = ["sid"];
  nodes = {
    source.services.peernix.settings.share.upload_limit = "2MiB";
    machine = {};
  };
}
