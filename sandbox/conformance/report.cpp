#include "sandbox/conformance/report.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/value.hpp>
#include <cmath>
#include <iterator>
#include <limits>

namespace troupe::check {
namespace {

std::string number(double x) {
  return x == 0 ? "0" : fmt::format("{:.2e}", x);
}

void print_row(std::string& out, const group& g) {
  const std::string state = !g.blocked().empty() ? "cannot run"
                            : g.ok()             ? "ok"
                            : g.cases() == 0     ? "no cases"
                                                 : "FAILED";
  const std::string largest = g.tolerance() ? number(g.largest()) : "";
  const std::string tolerance = g.tolerance() ? number(*g.tolerance()) : "";
  fmt::format_to(std::back_inserter(out), "{:<16} {:>6} {:>7}  {:>12}  {:>9}  {:>9}  {}{}\n", g.name(),
                 g.cases(), g.passed(), largest, tolerance,
                 g.near_ties().empty() ? "" : std::to_string(g.near_ties().size()), state,
                 g.remark().empty() ? "" : "  (" + g.remark() + ")");
}

void print_details(std::string& out, const group& g, std::size_t shown) {
  if (!g.blocked().empty()) fmt::format_to(std::back_inserter(out), "\n{}: {}\n", g.name(), g.blocked());
  for (std::size_t i = 0; i < std::min(shown, g.failures().size()); ++i)
    fmt::format_to(std::back_inserter(out), "\n{}: {}: {}\n", g.name(), g.failures()[i].name,
                   g.failures()[i].text);
  if (g.failures().size() > shown)
    fmt::format_to(std::back_inserter(out), "\n{}: {} more failures (--all shows them)\n", g.name(),
                   g.failures().size() - shown);
  for (const near_tie& t : g.near_ties())
    fmt::format_to(std::back_inserter(out),
                   "\n{}: {}: near-tie at step {}: the reference took {} (logit here {:.6f}) with a margin "
                   "of {:.2e}, here "
                   "{} is ahead (logit {:.6f}); compared up to this step\n",
                   g.name(), t.name, t.step, t.expected, t.expected_logit, t.reference_margin, t.found,
                   t.found_logit);
}

}  // namespace

boost::json::object to_json(const group& g) {
  boost::json::object o{{"name", g.name()}, {"ok", g.ok()}, {"cases", g.cases()}, {"passed", g.passed()}};
  if (g.tolerance()) {
    // JSON has no infinity: a difference that is none is null.
    if (std::isfinite(g.largest()))
      o["largest_difference"] = g.largest();
    else
      o["largest_difference"] = nullptr;
    o["tolerance"] = *g.tolerance();
  }
  if (!g.remark().empty()) o["note"] = g.remark();
  if (!g.blocked().empty()) o["blocked"] = g.blocked();
  boost::json::array failures;
  for (const failure& f : g.failures())
    failures.push_back(boost::json::object{{"case", f.name}, {"text", f.text}});
  o["failures"] = std::move(failures);
  boost::json::array ties;
  for (const near_tie& t : g.near_ties())
    ties.push_back(boost::json::object{{"case", t.name},
                                       {"step", t.step},
                                       {"expected", t.expected},
                                       {"found", t.found},
                                       {"expected_logit", t.expected_logit},
                                       {"found_logit", t.found_logit},
                                       {"reference_margin", t.reference_margin}});
  o["near_ties"] = std::move(ties);
  return o;
}

group group_from_json(const boost::json::object& from) {
  const auto text = [](const boost::json::value& v) { return std::string(v.as_string()); };
  std::optional<double> tolerance;
  if (const auto* t = from.if_contains("tolerance")) tolerance = t->to_number<double>();
  group g(text(from.at("name")), tolerance);
  for (std::size_t i = from.at("passed").to_number<std::size_t>(); i > 0; --i) g.pass();
  if (const auto* largest = from.if_contains("largest_difference"))
    g.within(largest->is_null() ? std::numeric_limits<double>::infinity() : largest->to_number<double>());
  if (const auto* note = from.if_contains("note")) g.note(text(*note));
  if (const auto* reason = from.if_contains("blocked")) g.block(text(*reason));
  for (const auto& f : from.at("failures").as_array()) g.fail(text(f.at("case")), text(f.at("text")));
  for (const auto& t : from.at("near_ties").as_array())
    g.add(near_tie{text(t.at("case")), t.at("step").to_number<std::size_t>(),
                   t.at("expected").to_number<std::int32_t>(), t.at("found").to_number<std::int32_t>(),
                   t.at("expected_logit").to_number<float>(), t.at("found_logit").to_number<float>(),
                   t.at("reference_margin").to_number<double>()});
  return g;
}

bool group::within(double difference) {
  sum_ += difference;
  ++differences_;
  if (std::isnan(difference)) difference = std::numeric_limits<double>::infinity();
  largest_ = std::max(largest_, difference);
  return !tolerance_ || difference <= *tolerance_;
}

bool report::ok() const {
  return !groups.empty() && std::all_of(groups.begin(), groups.end(), [](const group& g) { return g.ok(); });
}

std::string to_text(const report& r, std::size_t shown) {
  std::string out;
  fmt::format_to(std::back_inserter(out), "{} ({})\n", r.model, r.architecture);
  if (!r.module.empty()) fmt::format_to(std::back_inserter(out), "module {}, {}\n", r.module, r.device);
  fmt::format_to(std::back_inserter(out), "\n{:<16} {:>6} {:>7}  {:>12}  {:>9}  {:>9}\n", "group", "cases",
                 "passed", "largest diff", "tolerance", "near-ties");
  for (const group& g : r.groups) print_row(out, g);
  if (!r.left_out.empty())
    fmt::format_to(std::back_inserter(out), "left out: {}\n", fmt::join(r.left_out, ", "));
  for (const group& g : r.groups) print_details(out, g, shown);
  std::size_t failed = 0;
  for (const group& g : r.groups) failed += g.ok() ? 0 : 1;
  if (failed == 0)
    fmt::format_to(std::back_inserter(out), "\nall {} groups passed in {:.1f} s\n", r.groups.size(),
                   r.seconds);
  else
    fmt::format_to(std::back_inserter(out), "\n{} of {} groups failed ({:.1f} s)\n", failed, r.groups.size(),
                   r.seconds);
  return out;
}

boost::json::object to_json(const report& r) {
  boost::json::array groups;
  for (const group& g : r.groups) groups.push_back(to_json(g));
  boost::json::array left_out;
  for (const std::string& name : r.left_out) left_out.emplace_back(name);
  return {{"left_out", std::move(left_out)},
          {"ok", r.ok()},
          {"model", r.model},
          {"architecture", r.architecture},
          {"module", r.module},
          {"device", r.device},
          {"seconds", r.seconds},
          {"groups", std::move(groups)}};
}

}  // namespace troupe::check
