#include <cstdio>
#include <fstream>
#include <iterator>

#include "kernel/modules/modules.hpp"

// load_module <store> <file> <config.json>
int main(int argc, char** argv) {
  using namespace troupe;
  if (argc != 4) return 2;
  std::ifstream in(argv[3]);
  const std::string config((std::istreambuf_iterator<char>(in)), {});
  const auto store = modules::store::open(argv[1]);
  const auto loaded = store ? store->load(argv[2]) : fail(store.error());
  const auto program = loaded ? (*loaded)->build(config) : fail(loaded.error());
  if (!program) {
    std::fprintf(stderr, "%s\n", program.error().text.c_str());
    return 1;
  }
  std::printf("%s %s: %u ops\n", (*loaded)->name().c_str(), (*loaded)->version().c_str(),
              (*program)->ops()->size());
  return 0;
}
