// Turns exceptions of the parser and entries of the --config file into sentences.
#include "jobs/command_line/option_messages.h"

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <filesystem>

#include "core/error.h"

namespace longlora {
namespace {

class ConfigReader : public CLI::ConfigBase {
public:
    ConfigReader(const CLI::App& app, OptionsOfFile& of_file) : app_(app), of_file_(of_file) {}
    std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
        const std::string path = app_.get_config_ptr()->as<std::string>();
        auto entries = ConfigBase::from_config(input);
        for (const auto& item : entries) {
            require(item.parents.empty(), path, " has a section [", item.parents.empty() ? "" : item.parents.front(),
                    "]; write the options without sections");
            const CLI::Option* option = app_.get_option_no_throw("--" + item.name);
            require(option != nullptr, path, ": there is no option '", printable(item.name), "'");
            require(!item.inputs.empty() && item.name != "config", path, ": '", item.name,
                    "' cannot be used this way in a --config file; write one name = value per line");
            if (option->count() == 0) of_file_.insert(option);
        }
        return entries;
    }

private:
    /// A file that is not text must not spoil the terminal.
    static std::string printable(const std::string& name) {
        std::string out = name.substr(0, 60);
        for (char& c : out)
            if (static_cast<unsigned char>(c) < 32 || static_cast<unsigned char>(c) > 126) c = '?';
        return out;
    }
    const CLI::App& app_;
    OptionsOfFile& of_file_;
};

/// The parser lists unexpected words in an order of its own. If one of them looks like an option, the user mistyped
/// that option and the other words are only its values.
std::string unexpected(const CLI::App& app) {
    const std::vector<std::string> words = app.remaining();
    for (const auto& word : words)
        if (word.size() > 1 && word[0] == '-') return text("there is no option ", word);
    return words.empty() ? "an argument is not expected" : text("the argument '", words.front(), "' is not expected");
}

}  // namespace

void require_whole_number(const std::string& option, const std::string& value) {
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    require(error != std::errc::result_out_of_range, option, " is ", value,
            ", which is beyond the range of 64-bit whole numbers");
    require(error == std::errc() && end == value.data() + value.size(), option, " is '", value,
            "', not a whole number");
}

void require_number(const std::string& option, const std::string& value) {
    char* end = nullptr;
    std::strtod(value.c_str(), &end);
    require(end != value.c_str() && *end == 0, option, " is '", value, "', not a number");
}

void require_boolean(const std::string& option, const std::string& value) {
    try {
        CLI::detail::to_flag_value(value);
    } catch (const std::invalid_argument&) {
        fail(text(option, " is '", value, "'; write true or false"));
    }
}

std::shared_ptr<CLI::Config> config_reader(const CLI::App& app, OptionsOfFile& of_file) {
    return std::make_shared<ConfigReader>(app, of_file);
}

std::string why_no_config_file(const std::string& path) {
    std::error_code error;
    return !std::filesystem::is_fifo(path, error) ? "" : path + " is not a regular file";
}

std::string sentence_of(const CLI::ParseError& error, const CLI::App& app) {
    std::string reason = error.what();
    if (const auto end = reason.find('\n'); end != std::string::npos) reason.resize(end);
    const std::string name = reason.substr(0, reason.find_first_of(": "));
    if (dynamic_cast<const CLI::ExtrasError*>(&error)) return unexpected(app);
    if (dynamic_cast<const CLI::FileError*>(&error))
        return text("the --config file ", app.get_config_ptr()->as<std::string>(), " cannot be read");
    if (dynamic_cast<const CLI::RequiredError*>(&error)) return text(name, " is not given");
    if (dynamic_cast<const CLI::ArgumentMismatch*>(&error))
        return text(name, reason.find("At Most") != std::string::npos ? " takes one value, and more are given"
                                                                      : " is given without a value");
    return reason;
}

}  // namespace longlora
