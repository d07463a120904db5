// What the journal holds, and the line of text that a record is.
//
//   5f0c93b1 {"kind":"committed","operation":7,"model":"fox","generation":3,"checkpoint":"/models/fox", ...}\n
//   ^ CRC-32 of the JSON text, eight lowercase hexadecimal digits, one space
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "actors/deployment/operation.hpp"

namespace troupe::deployment {

// What is to be served under a name.
struct version {
  std::string checkpoint;         // folder; empty = the name is not served
  std::uint32_t max_context = 0;  // 0 = the model's
  std::string module_sha256;      // of the module that built its Program; empty = not known yet
  bool own_module = false;        // that very module; else the one that is installed for the architecture
  bool pinned = false;            // no operation but unpin
  bool served() const { return !checkpoint.empty(); }
  bool operator==(const version&) const = default;
};

struct operation {
  std::uint64_t id = 0;
  std::string model;
  deployment::course course;
  std::int64_t expected_generation = -1;  // -1 = any
  version wanted;                         // what the commit will make the intended state
  deployment::state state = state::queued;
  std::uint64_t begun_ms = 0, ended_ms = 0;  // since 1970-01-01 UTC; ended: 0 = under way
  std::uint64_t old_generation = 0;          // 0 = the name was not served
  std::uint64_t new_generation = 0;
  std::string reason;  // why it was refused or undone, or what is left to do
  bool operator==(const operation& other) const;
};

struct record {
  enum class kind : std::uint8_t {
    begun,      // id, model, course, wanted, begun_ms, old_generation
    committed,  // id, model, wanted, generation, base
    ended       // id, state, ended_ms, new_generation, reason
  };
  record::kind what = kind::begun;
  operation of;
  std::uint64_t generation = 0;  // committed: counts on when the name is not served
  std::string base;              // committed: the configuration's entry at that time
};

std::string to_line(const record& r);                    // with its newline
std::optional<record> from_line(std::string_view line);  // without its newline; nothing: damaged

}  // namespace troupe::deployment
