// A server's models as a table, models and operations as JSON.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <string>
#include <troupe/client.hpp>
#include <vector>

namespace troupe::cli {

std::string models_text(const std::vector<client::model_info>& models);
// What they do now, for people who operate them.
std::string status_table(const std::vector<client::model_info>& models);
boost::json::array models_json(const std::vector<client::model_info>& models);
boost::json::object operation_json(const client::operation_info& o);
boost::json::array operations_json(const std::vector<client::operation_info>& operations);

}  // namespace troupe::cli
