// Groups that need nothing but the Programs that the module builds.
#include <fmt/format.h>

#include <algorithm>
#include <boost/json/parse.hpp>

#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/program/names.hpp"
#include "sandbox/conformance/configs.hpp"
#include "sandbox/conformance/subject.hpp"

namespace troupe::conformance {

namespace {

namespace json = boost::json;

std::string neighbour_problem(const subject& s, const variant& v) {
  const auto program = s.build(v.config);
  return program || is_refusal(program.error()) ? "" : fault_of(program.error());
}

// ---- laws ----------------------------------------------------------------------------------------------

class law_checker {
 public:
  law_checker(const program::Program& p, const modules::module& m) : p_(p), module_(m) {}

  // The first thing that is declared and not used, or does not fit; empty = nothing.
  std::string problem() {
    const auto architecture = program::text(p_.facts()->architecture());
    if (std::ranges::find(module_.architectures(), architecture) == module_.architectures().end())
      return fmt::format("facts: architecture is {}, which the module's table does not list", architecture);
    look_at_uses();
    for (std::uint32_t i = 0; i < caches_.size(); ++i)
      if (!caches_[i]) return fmt::format("cache {}: no op uses it", p_.caches()->Get(i)->name()->str());
    return unused_output();
  }

 private:
  void look_at_uses() {
    caches_.assign(p_.caches()->size(), false);
    tensors_.assign(p_.tensors()->size(), false);
    for (const auto* op : *p_.ops()) {
      for (const auto id : program::values(op->inputs())) tensors_[id] = true;
      if (op->cache() >= 0) caches_[static_cast<std::size_t>(op->cache())] = true;
      if (const auto* native = op->attrs_as_NativeAttrs(); native != nullptr && native->states() != nullptr)
        for (const auto* state : *native->states()) caches_[state->cache()] = true;
    }
    tensors_[p_.logits()] = true;
    if (p_.probes() != nullptr)
      for (const auto* probe : *p_.probes()) tensors_[probe->tensor()] = true;
  }

  // An op may leave some of its outputs unused, but not all.
  std::string unused_output() const {
    for (std::uint32_t i = 0; i < p_.ops()->size(); ++i) {
      const auto outputs = program::values(p_.ops()->Get(i)->outputs());
      if (std::ranges::none_of(outputs, [&](auto id) { return tensors_[id]; }))
        return fmt::format("op {} ({}, {}): nothing uses what it computes", i,
                           program::name_of(p_.ops()->Get(i)->kind()),
                           program::text(p_.ops()->Get(i)->scope()));
    }
    return {};
  }

  const program::Program& p_;
  const modules::module& module_;
  std::vector<bool> caches_, tensors_;
};

}  // namespace

check::group check_table(const subject& s) {
  check::group out("table");
  out.pass();  // it has been read
  const auto again =
      sandbox::run_cell(s.given().cell, s.module().staged_path(), std::nullopt, s.given().limits);
  if (!again) {
    out.fail("read again", fault_of(again.error()));
    return out;
  }
  out.add("the same again", again->table.name == s.module().name() &&
                                    again->table.version == s.module().version() &&
                                    again->table.architectures == s.module().architectures()
                                ? ""
                                : "name, version or architectures differ from one process to the next");
  out.note(again->walls);
  return out;
}

check::group check_programs(const subject& s) {
  check::group out("programs");
  for (const auto& [name, config] : s.configs()) {
    const auto program = s.build(config);
    out.add(name, program ? "" : fault_of(program.error()));
    if (!program) continue;
    const auto again = s.build(config);
    out.add(name + ", built again",
            again && std::ranges::equal(program->bytes(), again->bytes()) ? "" : "expected the same bytes");
    const auto all = neighbours(config);
    for (std::size_t i = 0; i < all.size(); ++i) {
      s.progressed(out.name(), i, all.size());
      out.add(fmt::format("{}, {}", name, all[i].name), neighbour_problem(s, all[i]));
    }
  }
  return out;
}

check::group check_laws(const subject& s) {
  check::group out("laws");
  for (const auto& [name, config] : s.configs())
    if (const auto program = s.build(config)) out.add(name, law_checker(**program, s.module()).problem());
  if (out.cases() == 0) out.block("no configuration gives a Program");
  return out;
}

check::group check_weights(const subject& s) {
  check::group out("weights");
  const auto config = checkpoint::read_config(*s.given().checkpoint);
  const auto files = checkpoint::weights::open(*s.given().checkpoint);
  if (!config || !files) {
    out.block(config ? files.error().text : config.error().text);
    return out;
  }
  const auto program = s.build(json::parse(config->config_json));
  if (!program) {
    out.block(fault_of(program.error()));
    return out;
  }
  for (const auto* w : *(*program)->weights()) {
    const auto bound = checkpoint::bind(*w, **files, checkpoint::made_up::left_out);
    out.add(w->name()->str(), bound ? "" : bound.error().text);
  }
  return out;
}

}  // namespace troupe::conformance
