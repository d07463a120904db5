#include "actors/deployment/record.hpp"

#include <fmt/format.h>

#include <boost/crc.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value_to.hpp>

namespace troupe::deployment {

namespace {

namespace json = boost::json;

constexpr std::size_t digits = 8;

std::string checksum(std::string_view text) {
  boost::crc_32_type crc;
  crc.process_bytes(text.data(), text.size());
  return fmt::format("{:08x}", crc.checksum());
}

json::object to_json(const record& r) {
  const operation& o = r.of;
  switch (r.what) {
    case record::kind::begun:
      return {{"kind", "begun"},
              {"operation", o.id},
              {"model", o.model},
              {"verb", name_of(o.course.verb)},
              {"dry_run", o.course.dry_run},
              {"checkpoint", o.wanted.checkpoint},
              {"max_context", o.wanted.max_context},
              {"begun_ms", o.begun_ms},
              {"old_generation", o.old_generation}};
    case record::kind::committed:
      return {{"kind", "committed"},
              {"operation", o.id},
              {"model", o.model},
              {"generation", r.generation},
              {"checkpoint", o.wanted.checkpoint},
              {"max_context", o.wanted.max_context},
              {"module_sha256", o.wanted.module_sha256},
              {"own_module", o.wanted.own_module},
              {"pinned", o.wanted.pinned},
              {"base", r.base}};
    case record::kind::ended:
      break;
  }
  return {{"kind", "ended"},
          {"operation", o.id},
          {"state", name_of(o.state)},
          {"ended_ms", o.ended_ms},
          {"new_generation", o.new_generation},
          {"reason", o.reason}};
}

std::string text_of(const json::object& o, std::string_view key) {
  return json::value_to<std::string>(o.at(key));
}

// Journals of servers before them have none.
bool flag_of(const json::object& o, std::string_view key) {
  const auto* found = o.if_contains(key);
  return found != nullptr && found->as_bool();
}

template <class Number>
Number number_of(const json::object& o, std::string_view key) {
  return o.at(key).to_number<Number>();
}

// Throws where a field is missing or of another type.
std::optional<record> from_json(const json::object& o) {
  record r;
  r.of.id = number_of<std::uint64_t>(o, "operation");
  const std::string kind = text_of(o, "kind");
  if (kind == "ended") {
    const auto state = state_named(text_of(o, "state"));
    if (!state || !is_over(*state)) return std::nullopt;
    r.what = record::kind::ended;
    r.of.state = *state;
    r.of.ended_ms = number_of<std::uint64_t>(o, "ended_ms");
    r.of.new_generation = number_of<std::uint64_t>(o, "new_generation");
    r.of.reason = text_of(o, "reason");
    return r;
  }
  r.of.model = text_of(o, "model");
  r.of.wanted.checkpoint = text_of(o, "checkpoint");
  r.of.wanted.max_context = number_of<std::uint32_t>(o, "max_context");
  if (kind == "committed") {
    r.what = record::kind::committed;
    r.generation = number_of<std::uint64_t>(o, "generation");
    r.of.wanted.module_sha256 = text_of(o, "module_sha256");
    r.of.wanted.own_module = flag_of(o, "own_module");
    r.of.wanted.pinned = flag_of(o, "pinned");
    r.base = text_of(o, "base");
    return r;
  }
  const auto verb = verb_named(text_of(o, "verb"));
  if (kind != "begun" || !verb) return std::nullopt;
  r.of.course = {*verb, o.at("dry_run").as_bool()};
  r.of.begun_ms = number_of<std::uint64_t>(o, "begun_ms");
  r.of.old_generation = number_of<std::uint64_t>(o, "old_generation");
  return r;
}

}  // namespace

bool operation::operator==(const operation& other) const {
  return id == other.id && model == other.model && course.verb == other.course.verb &&
         course.dry_run == other.course.dry_run && wanted == other.wanted && state == other.state &&
         begun_ms == other.begun_ms && ended_ms == other.ended_ms && old_generation == other.old_generation &&
         new_generation == other.new_generation && reason == other.reason;
}

std::string to_line(const record& r) {
  const std::string text = json::serialize(to_json(r));
  return checksum(text) + ' ' + text + '\n';
}

std::optional<record> from_line(std::string_view line) {
  if (line.size() < digits + 3 || line[digits] != ' ') return std::nullopt;
  const std::string_view text = line.substr(digits + 1);
  if (checksum(text) != line.substr(0, digits)) return std::nullopt;
  try {
    return from_json(json::parse({text.data(), text.size()}).as_object());
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

}  // namespace troupe::deployment
