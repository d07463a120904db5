// A shared library that is no module.
extern "C" int troupe_something_else() {
  return 1;
}
