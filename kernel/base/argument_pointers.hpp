// Words as the functions of the exec family want them.
#pragma once

#include <string>
#include <vector>

namespace troupe {

// Pointers into `words`, which outlive them unchanged; a null pointer behind the last.
inline std::vector<char*> argument_pointers(std::vector<std::string>& words) {
  std::vector<char*> out;
  out.reserve(words.size() + 1);
  for (auto& word : words) out.push_back(word.data());
  out.push_back(nullptr);
  return out;
}

}  // namespace troupe
