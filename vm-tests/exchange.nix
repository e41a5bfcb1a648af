# Three machines that know nothing of each other.
{
  nodes = {
    a = {};
    b = {};
    c = {};
  };
}
