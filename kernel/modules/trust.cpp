#include "kernel/modules/trust.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <sstream>

#include "kernel/modules/signature.hpp"
#include "kernel/modules/text_file.hpp"

namespace troupe::modules {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t digest_bytes = 32;  // of SHA-256, and of a public key
constexpr std::size_t least_digits = 8;

// Who may write to the list decides what runs in the server.
result<void> check_owner(const fs::path& file) {
  struct stat info = {};
  if (::stat(file.c_str(), &info) != 0)
    return fail(error_code::not_found, "{}: cannot be read: {}", file.string(),
                std::generic_category().message(errno));
  if (info.st_uid != ::geteuid() && info.st_uid != 0)
    return fail(error_code::bad_config,
                "{}: this list of trusted modules belongs to user {}, expected {} who runs Troupe, or root",
                file.string(), info.st_uid, ::geteuid());
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return fail(error_code::bad_config,
                "{0}: others may write to this list of trusted modules: chmod go-w {0}", file.string());
  return {};
}

bool came_with_this_troupe(const fs::path& shipped, const fs::path& library, std::string_view sha256) {
  std::error_code code;
  if (shipped.empty() || !fs::equivalent(library.parent_path() / ".", shipped, code) || code) return false;
  const auto text = read_small_file(library.string() + ".sha256");
  return text && text->starts_with(sha256);
}

std::string with_note(const trust_list::entry& e) {
  return e.note.empty() ? "" : fmt::format(" ({})", e.note);
}

}  // namespace

result<trust_list> trust_list::load(const fs::path& file) {
  trust_list list;
  if (std::error_code ignored; !fs::exists(file, ignored)) return list;
  if (auto ok = check_owner(file); !ok) return fail(std::move(ok.error()));
  const auto text = read_small_file(file);
  if (!text) return fail(text.error());
  std::istringstream lines(*text);
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    std::istringstream words(line);
    entry e;
    if (!(words >> e.kind) || e.kind.starts_with('#')) continue;
    words >> e.hex >> std::ws;
    std::getline(words, e.note);
    if ((e.kind != "sha256" && e.kind != "ed25519") || !is_hex(e.hex, digest_bytes))
      return fail(error_code::bad_config,
                  "{}:{}: expected sha256 or ed25519, 64 lowercase hex digits and perhaps a note",
                  file.string(), number);
    list.add(std::move(e));
  }
  return list;
}

result<void> trust_list::save(const fs::path& file) const {
  std::string text = "# Modules whose native ops may run in the server. See troupe module trust --help\n";
  for (const auto& e : entries_)
    text += fmt::format("{} {}{}{}\n", e.kind, e.hex, e.note.empty() ? "" : " ", e.note);
  return write_small_file(file, text);
}

bool trust_list::add(entry e) {
  for (char& c : e.note)
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  const auto known = std::ranges::find_if(
      entries_, [&](const entry& old) { return old.kind == e.kind && old.hex == e.hex; });
  const bool is_new = known == entries_.end();
  if (is_new)
    entries_.push_back(std::move(e));
  else if (!e.note.empty())
    known->note = std::move(e.note);
  return is_new;
}

std::optional<trust_list::entry> trust_list::remove(std::string_view hex) {
  const auto is_meant = [&](const entry& e) { return hex.size() >= least_digits && e.hex.starts_with(hex); };
  if (std::ranges::count_if(entries_, is_meant) != 1) return std::nullopt;
  const auto at = std::ranges::find_if(entries_, is_meant);
  entry gone = std::move(*at);
  entries_.erase(at);
  return gone;
}

const trust_list::entry* trust_list::find(std::string_view kind, std::string_view hex) const {
  const auto at =
      std::ranges::find_if(entries_, [&](const entry& e) { return e.kind == kind && e.hex == hex; });
  return at == entries_.end() ? nullptr : &*at;
}

result<std::string> trust_policy::judge(const fs::path& library, std::string_view sha256) const {
  if (came_with_this_troupe(shipped, library, sha256)) return "came with this Troupe";
  if (const auto* e = listed.find("sha256", sha256))
    return fmt::format("its SHA-256 is listed in {}{}", list.string(), with_note(*e));
  const auto signatures = read_signatures(signature_file(library));
  if (!signatures) return fail(signatures.error());
  std::string by;
  for (const auto& s : *signatures) {
    if (!is_valid(s, sha256)) continue;
    if (const auto* e = listed.find("ed25519", s.key))
      return fmt::format("signed by key {}, listed in {}{}", s.key, list.string(), with_note(*e));
    by = s.key;
  }
  return fail(error_code::bad_module,
              "{0}: brings native ops, code that would run in the server's own process, and is not trusted: "
              "if you know "
              "where it comes from, run: troupe module trust add {0}{1}",
              library.string(),
              by.empty()
                  ? ""
                  : fmt::format("   or trust the key that signed it: troupe module trust add --key {}", by));
}

result<trust_policy> load_trust(const fs::path& shipped, const fs::path& list) {
  trust_policy policy{.shipped = shipped, .listed = {}, .list = list};
  if (list.empty()) return policy;
  auto listed = trust_list::load(list);
  if (!listed) return fail(std::move(listed.error()));
  policy.listed = std::move(*listed);
  return policy;
}

trust_policy trust_shipped() {
  std::error_code problem;
  const fs::path program = fs::read_symlink("/proc/self/exe", problem);
  if (problem) return {};
  const fs::path prefix = program.parent_path().parent_path();
  const fs::path distribution = prefix / TROUPE_LIBDIR / "troupe" / "modules";
  std::error_code ignored;
  return {.shipped = fs::exists(distribution, ignored) ? distribution : prefix / "lib" / "troupe" / "modules",
          .listed = {},
          .list = {}};
}

}  // namespace troupe::modules
