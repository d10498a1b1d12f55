// A stack machine for the opcodes of pickle protocol 2 (Python's Lib/pickletools.py lists them) that torch.save writes.
#include "io/tensor_pickle.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <set>
#include <unordered_map>

#include "core/error.h"

namespace longlora {

namespace {

struct Value;
using List = std::vector<Value>;

enum class Kind { mark, none, boolean, integer, text, list, dict, global, storage, tensor, other };

struct Value {
    Kind kind = Kind::none;
    std::int64_t integer = 0;  // also of booleans
    std::string text;          // also "module name" of a global
    std::vector<Value> items;  // of a list or tuple; of a dict: key, value, key, value
    PickledTensor tensor;      // of a storage: its type, name and count
    std::int64_t size = 1;     // this value and all in its items
    int depth = 0;             // of items in items
};

/// A dict of tensors needs far less. A pickle can copy values by a few bytes each.
constexpr std::int64_t kLargest = 20'000'000;
constexpr int kDeepest = 20;

/// The only functions and classes that a dict of tensors refers to.
bool is_known_global(const std::string& name) {
    static const std::set<std::string> names = {"torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter",
                                                "collections OrderedDict"};
    return names.count(name) != 0 || (name.starts_with("torch ") && name.ends_with("Storage"));
}

class Reader {
public:
    Reader(std::string_view pickle, const std::string& path) : pickle_(pickle), path_(path) {}

    std::map<std::string, PickledTensor> tensors() {
        while (!done_) step(static_cast<unsigned char>(take(1)[0]));
        const Value result = pop();
        require(result.kind == Kind::dict, path_, " does not hold a dict of tensors");
        std::map<std::string, PickledTensor> tensors;
        for (std::size_t i = 0; i + 1 < result.items.size(); i += 2) {
            const Value &key = result.items[i], &value = result.items[i + 1];
            if (key.kind != Kind::text || value.kind != Kind::tensor) continue;
            require(tensors.emplace(key.text, value.tensor).second, path_, " has the tensor ", key.text, " twice");
        }
        return tensors;
    }

private:
    [[noreturn]] void refuse(const std::string& what) const {
        fail(text(path_, ": its pickle has ", what,
                  ", which a dict of tensors does not need; save the state dict again with torch.save, or as "
                  "safetensors"));
    }
    std::string_view take(std::size_t bytes) {
        require(bytes <= pickle_.size() - at_, path_, ": its pickle is cut short");
        at_ += bytes;
        return pickle_.substr(at_ - bytes, bytes);
    }
    std::uint64_t number(std::size_t bytes) {
        std::uint64_t value = 0;
        std::memcpy(&value, take(bytes).data(), bytes);
        return value;
    }
    std::string line() {
        const std::size_t end = pickle_.find('\n', at_);
        require(end != std::string_view::npos, path_, ": its pickle is cut short");
        const std::string_view found = take(end - at_);
        take(1);
        return std::string(found);
    }
    void push(Value value) { stack_.push_back(std::move(value)); }
    Value pop() {
        require(!stack_.empty(), path_, ": its pickle takes more values than it gives");
        Value value = std::move(stack_.back());
        stack_.pop_back();
        return value;
    }
    /// The values above the last mark, which is taken away.
    List pop_to_mark() {
        std::size_t mark = stack_.size();
        while (mark > 0 && stack_[mark - 1].kind != Kind::mark) --mark;
        require(mark > 0, path_, ": its pickle takes more values than it gives");
        const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(mark);
        List items(std::make_move_iterator(begin), std::make_move_iterator(stack_.end()));
        stack_.erase(begin - 1, stack_.end());
        return items;
    }
    void push_integer(std::int64_t value) { push({Kind::integer, value, {}, {}, {}}); }
    void push_text(std::string_view value) { push({Kind::text, 0, std::string(value), {}, {}}); }
    void push_list(Kind kind, List items) {
        push({kind, 0, {}, {}, {}});
        add_items(kind, std::move(items));
    }

    void push_tuple(std::size_t count) {
        List items(count);
        for (std::size_t i = count; i-- > 0;) items[i] = pop();
        push_list(Kind::list, std::move(items));
    }
    void add_items(Kind kind, List items) {
        require(!stack_.empty() && stack_.back().kind == kind, path_, ": its pickle adds items to what has none");
        Value& owner = stack_.back();
        for (Value& item : items) {
            owner.size += item.size, owner.depth = std::max(owner.depth, item.depth + 1);
            if (owner.size > kLargest || owner.depth > kDeepest) refuse("values of values without end");
            owner.items.push_back(std::move(item));
        }
    }
    /// A little-endian number in two's complement.
    std::int64_t long_of(std::size_t bytes) {
        if (bytes > 8) refuse("a number of more than 8 bytes");
        std::uint64_t value = number(bytes);
        if (bytes > 0 && bytes < 8 && (value >> (8 * bytes - 1)) != 0) value |= ~std::uint64_t{0} << (8 * bytes);
        return static_cast<std::int64_t>(value);
    }
    void remember(std::uint64_t index) {
        require(!stack_.empty(), path_, ": its pickle takes more values than it gives");
        memo_[index] = stack_.back();
    }
    void recall(std::uint64_t index) {
        const auto found = memo_.find(index);
        require(found != memo_.end(), path_, ": its pickle asks for a value that it has not stored");
        push(found->second);
    }
    void global() {
        const std::string module = line(), name = module + " " + line();
        if (!is_known_global(name)) refuse("the name " + name.substr(0, 100));
        push({Kind::global, 0, name, {}, {}});
    }

    std::int64_t integer_of(const Value& value, const char* what) const {
        require(value.kind == Kind::integer && value.integer >= 0, path_, ": ", what, " of a tensor is not a number");
        return value.integer;
    }
    std::vector<std::int64_t> integers_of(const Value& value, const char* what) const {
        std::vector<std::int64_t> all;
        require(value.kind == Kind::list, path_, ": ", what, " of a tensor is not a tuple");
        for (const Value& item : value.items) all.push_back(integer_of(item, what));
        return all;
    }
    /// ("storage", torch.FloatStorage, "0", "cpu", 12)
    void storage() {
        const Value id = pop();
        const bool good = id.kind == Kind::list && id.items.size() == 5 && id.items[0].text == "storage" &&
                          id.items[1].kind == Kind::global && id.items[2].kind == Kind::text;
        if (!good) refuse("a persistent value that is no storage");
        Value value;
        value.kind = Kind::storage;
        value.tensor.storage_type = id.items[1].text.substr(std::strlen("torch "));
        value.tensor.storage = id.items[2].text;
        value.tensor.storage_count = integer_of(id.items[4], "the storage");
        push(std::move(value));
    }
    void call() {
        const Value arguments = pop(), function = pop();
        require(function.kind == Kind::global && arguments.kind == Kind::list, path_,
                ": its pickle calls what is no function");
        const List& given = arguments.items;
        if (function.text == "collections OrderedDict") return push_list(Kind::dict, {});
        const bool rebuilds = function.text.starts_with("torch._utils ");
        if (!rebuilds) refuse("a call of " + function.text);
        if (function.text.ends_with("parameter")) {
            require(!given.empty() && given[0].kind == Kind::tensor, path_, ": a parameter is no tensor");
            return push(given[0]);
        }
        require(given.size() >= 4 && given[0].kind == Kind::storage, path_, ": a tensor has no storage");
        Value value = given[0];
        value.kind = Kind::tensor;
        value.tensor.offset = integer_of(given[1], "the offset");
        value.tensor.shape = integers_of(given[2], "the shape");
        value.tensor.strides = integers_of(given[3], "the strides");
        require(value.tensor.shape.size() == value.tensor.strides.size(), path_,
                ": a tensor has other dimensions than strides");
        push(std::move(value));
    }

    void step(unsigned char opcode) {
        switch (opcode) {
            case 0x80:
                return void(take(1));  // PROTO
            case '.':
                done_ = true;
                return;  // STOP
            case '(':
                return push({Kind::mark, 0, {}, {}, {}});  // MARK
            case '}':
                return push_list(Kind::dict, {});  // EMPTY_DICT
            case ']':
                return push_list(Kind::list, {});  // EMPTY_LIST
            case ')':
                return push_list(Kind::list, {});  // EMPTY_TUPLE
            case 't':
                return push_list(Kind::list, pop_to_mark());  // TUPLE
            case 0x85:
                return push_tuple(1);  // TUPLE1
            case 0x86:
                return push_tuple(2);  // TUPLE2
            case 0x87:
                return push_tuple(3);  // TUPLE3
            case 'N':
                return push({Kind::none, 0, {}, {}, {}});  // NONE
            case 0x88:
                return push({Kind::boolean, 1, {}, {}, {}});  // NEWTRUE
            case 0x89:
                return push({Kind::boolean, 0, {}, {}, {}});  // NEWFALSE
            case 'K':
                return push_integer(static_cast<std::int64_t>(number(1)));  // BININT1
            case 'M':
                return push_integer(static_cast<std::int64_t>(number(2)));  // BININT2
            case 'J':
                return push_integer(long_of(4));  // BININT
            case 0x8a:
                return push_integer(long_of(number(1)));  // LONG1
            case 'G':
                take(8);
                return push({Kind::other, 0, {}, {}, {}});  // BINFLOAT
            case 'X':
                return push_text(take(number(4)));  // BINUNICODE
            case 'q':
                return remember(number(1));  // BINPUT
            case 'r':
                return remember(number(4));  // LONG_BINPUT
            case 'h':
                return recall(number(1));  // BINGET
            case 'j':
                return recall(number(4));  // LONG_BINGET
            case 'c':
                return global();  // GLOBAL
            case 'Q':
                return storage();  // BINPERSID
            case 'R':
                return call();  // REDUCE
            case 'b':
                pop();
                return;  // BUILD: attributes, such as _metadata
            case 'u':
                return add_items(Kind::dict, pop_to_mark());  // SETITEMS
            case 'e':
                return add_items(Kind::list, pop_to_mark());  // APPENDS
            case 'a': {
                List one(1);
                one[0] = pop();
                return add_items(Kind::list, std::move(one));
            }  // APPEND
            case 's': {
                List pair(2);
                pair[1] = pop();
                pair[0] = pop();
                return add_items(Kind::dict, std::move(pair));
            }  // SETITEM
            default:
                refuse(text("the opcode ", static_cast<int>(opcode)));
        }
    }

    std::string_view pickle_;
    const std::string& path_;
    std::size_t at_ = 0;
    bool done_ = false;
    std::vector<Value> stack_;
    std::unordered_map<std::uint64_t, Value> memo_;
};

}  // namespace

std::map<std::string, PickledTensor> read_tensor_pickle(std::string_view pickle, const std::string& path) {
    return Reader(pickle, path).tensors();
}

}  // namespace longlora
