// Which safetensors files a folder has, and their tensors as one map.
#include <boost/json.hpp>

#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/checkpoint/mapped_file.hpp"
#include "kernel/checkpoint/safetensors.hpp"

namespace troupe::checkpoint {

namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr const char* single_name = "model.safetensors";
constexpr const char* index_name = "model.safetensors.index.json";

using tensor_map = std::map<std::string, tensor_view, std::less<>>;
// File name -> tensors that the index puts there.
using shard_map = std::map<std::string, std::vector<std::string>>;

// A shard stands beside its index: nothing in a checkpoint may point elsewhere.
bool is_plain_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

result<shard_map> read_index(const fs::path& path) {
  auto text = read_text(path);
  if (!text) return fail(std::move(text.error()));
  boost::system::error_code ec;
  const json::value root = json::parse(*text, ec);
  if (ec) return fail(error_code::bad_checkpoint, "{}: not valid JSON: {}", path.string(), ec.message());
  const json::value* map = root.is_object() ? root.get_object().if_contains("weight_map") : nullptr;
  if (map == nullptr || !map->is_object())
    return fail(error_code::bad_checkpoint, "{}: weight_map: expected an object from tensor to file",
                path.string());
  shard_map shards;
  for (const auto& [tensor, file] : map->get_object()) {
    const std::string name(tensor.data(), tensor.size());
    if (!file.is_string() ||
        !is_plain_name(std::string_view(file.get_string().data(), file.get_string().size())))
      return fail(error_code::bad_checkpoint,
                  "{}: weight_map: tensor {}: expected the name of a file in the same folder", path.string(),
                  name);
    shards[std::string(file.get_string().data(), file.get_string().size())].push_back(name);
  }
  if (shards.empty())
    return fail(error_code::bad_checkpoint, "{}: weight_map: expected tensors, found none", path.string());
  return shards;
}

// Only the tensors that the index puts into this shard count.
result<void> take_listed(std::vector<std::pair<std::string, tensor_view>> found,
                         const std::vector<std::string>& listed, std::string_view file, tensor_map& tensors) {
  tensor_map in_shard(std::make_move_iterator(found.begin()), std::make_move_iterator(found.end()));
  for (const auto& name : listed) {
    auto node = in_shard.extract(name);
    if (node.empty())
      return fail(error_code::bad_checkpoint, "{}: tensor {}: {} says that it is in this file, but it is not",
                  file, name, index_name);
    tensors.insert(std::move(node));
  }
  return {};
}

// {"seed": 1}
result<std::uint64_t> read_seed(const fs::path& path) {
  auto text = read_text(path);
  if (!text) return fail(std::move(text.error()));
  boost::system::error_code ec;
  const json::value root = json::parse(*text, ec);
  const json::value* seed = !ec && root.is_object() ? root.get_object().if_contains("seed") : nullptr;
  if (seed == nullptr || !seed->is_int64() || seed->get_int64() < 0)
    return fail(error_code::bad_checkpoint, "{}: expected {{\"seed\": <whole number>}}", path.string());
  return static_cast<std::uint64_t>(seed->get_int64());
}

bool has_files(const fs::path& folder) {
  std::error_code code;
  return fs::exists(folder / single_name, code) || fs::exists(folder / index_name, code);
}

result<shard_map> list_shards(const fs::path& folder) {
  std::error_code code;
  if (!fs::is_directory(folder, code))
    return fail(error_code::not_found, "{}: not a folder{}", folder.string(),
                code ? " (" + code.message() + ")" : "");
  if (fs::exists(folder / single_name, code)) return shard_map{{single_name, {}}};
  if (fs::exists(folder / index_name, code)) return read_index(folder / index_name);
  return fail(error_code::not_found, "{}: expected {} or {}, found neither{}", folder.string(), single_name,
              index_name,
              fs::exists(folder / "pytorch_model.bin", code) ||
                      fs::exists(folder / "pytorch_model.bin.index.json", code)
                  ? " (pytorch_model.bin is not read: convert it to safetensors)"
                  : "");
}

}  // namespace

result<std::shared_ptr<const weights>> weights::open(const fs::path& folder) {
  std::error_code code;
  if (fs::exists(folder / synthetic_name, code) && !has_files(folder)) {
    const auto seed = read_seed(folder / synthetic_name);
    if (!seed) return fail(seed.error());
    auto made = std::make_shared<weights>();
    made->folder_ = folder;
    made->seed_ = *seed;
    return made;
  }
  const auto shards = list_shards(folder);
  if (!shards) return fail(shards.error());
  auto all = std::make_shared<weights>();
  all->folder_ = folder;
  for (const auto& [file, listed] : *shards) {
    auto mapping = mapped_file::open(folder / file);
    if (!mapping) return fail(std::move(mapping.error()));
    auto tensors = read_safetensors(**mapping);
    if (!tensors)
      return fail(tensors.error().code, "{}",
                  (folder / tensors.error().text).string());  // the text begins with the file
    if (listed.empty())
      all->tensors_.insert(std::make_move_iterator(tensors->begin()),
                           std::make_move_iterator(tensors->end()));
    else if (auto ok = take_listed(std::move(*tensors), listed, (folder / file).string(), all->tensors_); !ok)
      return fail(std::move(ok.error()));
    all->mappings_.push_back(std::move(*mapping));
  }
  for (const auto& [name, view] : all->tensors_) all->total_bytes_ += view.data.size();
  return all;
}

std::shared_ptr<const weights> weights::synthetic(std::uint64_t seed) {
  auto made = std::make_shared<weights>();
  made->seed_ = seed;
  return made;
}

const tensor_view* weights::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

}  // namespace troupe::checkpoint
