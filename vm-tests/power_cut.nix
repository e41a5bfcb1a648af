# One machine that loses its power, and one that it sends to meanwhile.
{
  needs = ["power-cut"];
  timeout = 180;
  nodes = {
    # Slowly, so that there is a transfer to cut off.
    machine.services.peernix.settings.share.upload_limit = "8MiB";
    other = {};
  };
}
