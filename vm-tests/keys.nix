# a builds, b takes what a signed. The script enrols them with each other: node ids are not known before.
{
  timeout = 90;
  nodes = {
    a = {};
    b = {};
  };
}
