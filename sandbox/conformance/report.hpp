// What a check found, group by group, and how it is shown: a table for people, one JSON object for scripts.
#pragma once

#include <boost/json/object.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::check {

struct failure {
  std::string name;  // of the case
  std::string text;  // expected and found
};

// A greedy step where the reference's best two logits are closer than the exactness that can be demanded, and
// where this implementation took the other one. Not a failure; the comparison of that prompt stops there.
struct near_tie {
  std::string name;
  std::size_t step = 0;
  std::int32_t expected = -1;
  std::int32_t found = -1;
  float expected_logit = 0;  // both as computed here
  float found_logit = 0;
  double reference_margin = 0;
};

// One line of the table.
class group {
 public:
  explicit group(std::string name, std::optional<double> tolerance = {})
      : name_(std::move(name)), tolerance_(tolerance) {}

  void pass() { ++cases_, ++passed_; }
  void fail(std::string name, std::string text) {
    ++cases_;
    failures_.push_back({std::move(name), std::move(text)});
  }
  // One case: passes if `problem` is empty.
  void add(std::string name, std::string problem) {
    problem.empty() ? pass() : fail(std::move(name), std::move(problem));
  }
  // Remembers the largest difference; a NaN counts as infinite. True if it is within the tolerance.
  bool within(double difference);
  void add(near_tie tie) { near_ties_.push_back(std::move(tie)); }
  void note(std::string text) { note_ = std::move(text); }
  // The group was asked for and cannot run: that is a failure too.
  void block(std::string reason) { blocked_ = std::move(reason); }

  const std::string& name() const { return name_; }
  std::size_t cases() const { return cases_; }
  std::size_t passed() const { return passed_; }
  bool ok() const { return blocked_.empty() && failures_.empty() && cases_ > 0; }
  const std::string& blocked() const { return blocked_; }
  const std::string& remark() const { return note_; }
  const std::vector<failure>& failures() const { return failures_; }
  const std::vector<near_tie>& near_ties() const { return near_ties_; }
  double largest() const { return largest_; }
  double mean() const { return differences_ == 0 ? 0 : sum_ / static_cast<double>(differences_); }
  std::optional<double> tolerance() const { return tolerance_; }

 private:
  std::string name_;
  std::optional<double> tolerance_;
  std::size_t cases_ = 0;
  std::size_t passed_ = 0;
  double largest_ = 0, sum_ = 0;  // of the differences
  std::size_t differences_ = 0;
  std::string note_;
  std::string blocked_;
  std::vector<failure> failures_;
  std::vector<near_tie> near_ties_;
};

struct report {
  std::string model;         // folder
  std::string architecture;  // as in config.json
  std::string module;        // name and version; empty if none serves the architecture
  std::string device;        // empty if no model ran
  std::vector<group> groups;
  std::vector<std::string> left_out;  // groups without reference outputs, and which file would hold them
  double seconds = 0;

  bool ok() const;
};

// Table, then failures (at most `shown` of each group) and near-ties.
std::string to_text(const report& r, std::size_t shown);
boost::json::object to_json(const report& r);
boost::json::object to_json(const group& g);
group group_from_json(const boost::json::object& from);  // of to_json(); throws if it is another

// Called while a group runs, from the calling thread.
using progress = std::function<void(std::string_view group, std::size_t done, std::size_t total)>;

}  // namespace troupe::check
