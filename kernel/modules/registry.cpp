#include <algorithm>
#include <set>

#include "kernel/modules/modules.hpp"

namespace troupe::modules {

namespace fs = std::filesystem;

void registry::add(module_ptr m) {
  modules_.push_back(std::move(m));
}

std::vector<error> registry::add_folder(const store& s, const fs::path& folder) {
  std::vector<error> errors;
  std::error_code code;
  std::vector<fs::path> files;
  for (fs::directory_iterator entry(folder, code), end; !code && entry != end; entry.increment(code))
    if (entry->path().extension() == ".so") files.push_back(entry->path());
  if (code)
    errors.push_back(
        {error_code::not_found, fmt::format("{}: cannot be read: {}", folder.string(), code.message())});
  std::sort(files.begin(), files.end());  // the same order on every machine
  for (const auto& file : files) {
    if (auto loaded = s.load(file))
      add(std::move(*loaded));
    else
      errors.push_back(std::move(loaded.error()));
  }
  return errors;
}

result<module_ptr> registry::find(std::string_view architecture) const {
  for (auto m = modules_.rbegin(); m != modules_.rend(); ++m)
    for (const auto& name : (*m)->architectures())
      if (name == architecture) return *m;
  std::set<std::string_view> known;
  for (const auto& m : modules_) known.insert(m->architectures().begin(), m->architectures().end());
  return fail(error_code::unknown_architecture, "no loaded module serves the architecture {}; loaded: {}",
              architecture, known.empty() ? "none" : fmt::format("{}", fmt::join(known, ", ")));
}

}  // namespace troupe::modules
