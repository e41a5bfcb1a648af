# One machine whose service is called by all kinds of users, and one that it knows.
{
  timeout = 90;
  nodes = {
    machine = {};
    other = {};
  };
}
