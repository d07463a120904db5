#include "sandbox/conformance/conformance.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <exception>
#include <fstream>
#include <iterator>
#include <set>

#include "kernel/base/temporary_folder.hpp"
#include "kernel/program/names.hpp"
#include "sandbox/conformance/configs.hpp"
#include "sandbox/conformance/random_weights.hpp"
#include "sandbox/conformance/subject.hpp"

namespace troupe::conformance {

namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr std::uint64_t most_parameters = 20'000'000;  // that are worth a file of random numbers

result<named_config> read_config(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  if (!in) return fail(error_code::not_found, "{}: cannot be read", file.string());
  boost::system::error_code problem;
  auto config = json::parse(text, problem);
  if (problem)
    return fail(error_code::bad_checkpoint, "{}: expected JSON: {}", file.string(), problem.message());
  return named_config{file.string(), std::move(config)};
}

result<std::vector<named_config>> read_configs(const options& o) {
  auto files = o.configs;
  if (o.checkpoint) files.push_back(*o.checkpoint / "config.json");
  std::vector<named_config> all;
  for (const auto& file : files) {
    auto one = read_config(file);
    if (!one) return fail(std::move(one.error()));
    all.push_back(std::move(*one));
  }
  return all;
}

// What a small relative must still have: every kind of op and of cache.
std::set<std::string> parts_of(const program::Program& p) {
  std::set<std::string> parts;
  for (const auto* op : *p.ops()) {
    std::string part(program::name_of(op->kind()));
    if (const auto* native = op->attrs_as_NativeAttrs())
      part += fmt::format(" {}", program::text(native->op()));
    parts.insert(std::move(part));
  }
  for (const auto* cache : *p.caches()) parts.insert(std::string(program::name_of(cache->kind())));
  return parts;
}

result<small_model> make_small(const subject& s, const named_config& given, const fs::path& folder,
                               std::uint64_t seed) {
  const auto whole = s.build(given.config);
  if (!whole) return fail(error_code::bad_module, "{}: {}", name_of(whole.error().kind), whole.error().text);
  const auto parts = parts_of(**whole);
  const auto small = shrink(given.config, [&](const json::value& config) {
    s.progressed("small relative", 0, 0);
    const auto program = s.build(config);
    return program && parts_of(**program) == parts;
  });
  const auto program = s.build(small);
  if (!program) return fail(error_code::bad_module, "{}", program.error().text);
  const auto size = program::count_parameters(**program).total;
  if (size > most_parameters)
    return fail(error_code::unsupported,
                "no relative with at most {} parameters was found; the smallest has {}", most_parameters,
                size);
  auto plain = with_plain_weights(**program);
  if (!plain) return fail(std::move(plain.error()));
  std::error_code ignored;
  fs::create_directories(folder, ignored);
  auto weights = random_weights(**plain, folder, seed);
  if (!weights) return fail(std::move(weights.error()));
  return small_model{given.name, std::move(*plain), std::move(*weights)};
}

using run_group = check::group (*)(const subject&, const std::vector<small_model>&);

// A configuration that gives no Program has failed in an earlier group.
void add_run_groups(const subject& s, check::report& out) {
  const auto folder = temporary_folder::make("troupe-conformance");
  std::vector<small_model> models;
  std::string problem = folder ? "" : folder.error().text;
  for (std::size_t i = 0; folder && i < s.configs().size(); ++i) {
    auto m = make_small(s, s.configs()[i], folder->path() / std::to_string(i), i + 1);
    if (m)
      models.push_back(std::move(*m));
    else
      problem = fmt::format("{}: {}", s.configs()[i].name, m.error().text);
  }
  static constexpr std::pair<const char*, run_group> groups[] = {{"reference", &check_reference},
                                                                 {"batches", &check_batches},
                                                                 {"states", &check_states},
                                                                 {"guards", &check_guards}};
  for (const auto& [name, run] : groups) {
    if (name == std::string_view("guards") && s.module().declared_ops().empty()) continue;
    out.groups.emplace_back(name);
    if (models.empty())
      out.groups.back().block(problem);
    else if (name == std::string_view("guards"))  // each of its cases has a child of its own
      out.groups.back() = run(s, models);
    else
      out.groups.back() = apart(s, name, [&, run = run](const subject& mine) { return run(mine, models); });
    if (!models.empty() && !problem.empty()) out.groups.back().fail("small relative", problem);
  }
}

void add_blocked_groups(const subject& s, check::report& out) {
  for (const std::string_view name : {"programs", "laws", "reference", "batches", "states", "guards"}) {
    if (name == "guards" && s.module().declared_ops().empty()) continue;
    out.groups.emplace_back(std::string(name)).block("needs a configuration: give --config or --checkpoint");
  }
}

// A module that builds none of its configurations has shown what it is: what else it does may take long.
void add_groups(const subject& s, check::report& out) {
  if (s.configs().empty()) {
    out.groups.push_back(check_mistakes(s));
    out.groups.back().note("without a configuration only texts that are none");
    add_blocked_groups(s, out);
    return;
  }
  out.groups.push_back(check_programs(s));
  if (out.groups.back().passed() == 0) return;
  if (!s.given().quick) out.groups.push_back(check_mistakes(s));
  out.groups.push_back(check_laws(s));
  if (s.given().checkpoint) out.groups.push_back(check_weights(s));
  if (!s.given().quick) add_run_groups(s, out);
}

}  // namespace

tl::expected<program::verified_program, sandbox::verdict> subject::build(const json::value& config) const {
  auto report =
      sandbox::run_cell(options_.cell, module_->staged_path(), json::serialize(config), options_.limits);
  if (!report) return tl::unexpected(std::move(report.error()));
  return std::move(*report->program);
}

check::group apart(const subject& s, const std::string& name,
                   const std::function<check::group(const subject&)>& run) {
  const auto work = [&](const sign_of_life& alive) {
    subject mine = s;
    mine.report_life_to(alive);
    return json::serialize(to_json(run(mine)));
  };
  auto answer = in_a_child(work, s.limits(), [&] { s.progressed(name, 0, 0); });
  if (answer.end.empty()) try {
      return check::group_from_json(json::parse(answer.text).as_object());
    } catch (const std::exception& e) {  // what ran in the child can write what it likes
      answer.end = fmt::format("expected the findings of the group as JSON: {}", e.what());
    }
  check::group out(name);
  out.fail(answer.last.empty() ? "at the beginning" : answer.last, answer.end);
  return out;
}

result<check::report> run(const options& o, const modules::store& store) {
  const auto start = std::chrono::steady_clock::now();
  auto module = store.load(o.module);
  if (!module) return fail(std::move(module.error()));
  auto configs = read_configs(o);
  if (!configs) return fail(std::move(configs.error()));
  const subject s(o, *module, std::move(*configs));

  check::report out;
  out.model = o.module.string();
  out.architecture = fmt::format("{}", fmt::join((*module)->architectures(), ", "));
  out.module = (*module)->name() + " " + (*module)->version();
  out.device = "cpu";
  out.groups.push_back(check_table(s));
  add_groups(s, out);
  out.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return out;
}

}  // namespace troupe::conformance
