// Decoder: what the decoder of an instruction is given - the parts of its statement, and functions that turn names into
// registers, constants and symbols. The decoders of single instructions are in the files of their operations. Each
// takes every modifier that it knows; a modifier that is left over is a Fault.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sim/ptx/parser.h"
#include "sim/ptx/program.h"
#include "sim/ptx/registers.h"

namespace sim::ptx {

enum class Space : std::uint8_t { generic, global, shared, local, constant, parameter };

/// A register or a place in memory, by its name.
struct Symbol {
    enum class Kind : std::uint8_t { reg, parameter, local, shared, dynamic_shared, variable } kind = Kind::reg;
    Type type = Type::none;
    Row row = kNoRow;
    std::uint64_t address = 0;  ///< offset in its space; for a variable, its address in this process
    std::size_t bytes = 0, alignment = 1;
};

struct Operand {
    enum class Kind : std::uint8_t { reg, immediate, special, symbol, vector, address, sink, pair } kind = Kind::sink;
    std::string_view text;
    Symbol symbol;            ///< for reg and symbol
    std::uint64_t value = 0;  ///< for immediate: the bits of the value
    char literal = 'i';       ///< for immediate: i: integer, f: bits of a float, d: bits of a double
    std::uint8_t special = 0;
    std::int64_t offset = 0;  ///< for address, and for symbol + number
    bool negated = false;
    std::vector<Operand> elements;  ///< for vector and pair (p|q); for address: its base alone
};

struct Builder;

/// One instruction while it is turned from text into a part of a program.
class Decoder {
public:
    Builder& builder;
    Statement statement;
    std::string_view name;
    std::vector<Operand> operands;
    Instruction out;

    explicit Decoder(Builder& to) : builder(to) {}
    /// Takes the modifier if the instruction has it and it was not taken yet. Returns whether it took one.
    bool take(std::string_view modifier);
    /// Takes the first of these modifiers that the instruction has; returns "" if it has none of them.
    std::string_view take_any(std::initializer_list<std::string_view> modifiers);
    /// Takes the next modifier that names a type; Type::none if there is none.
    Type take_type();
    Type need_type();
    void begin(std::string_view opcode);
    void expect_all_taken() const;
    void expect_operands(std::size_t number) const;
    void expect_operands(std::size_t least, std::size_t most) const;

    /// The row of a source operand whose lanes have as many bytes as `type`. Immediates become rows of constants.
    Row source(std::size_t operand, Type type);
    Row source(const Operand& operand, Type type);
    Row target(std::size_t operand, Type type);
    Row target(const Operand& operand, Type type);
    /// Bytes per lane of a register operand (0: predicate); for an immediate, the bytes of `type`.
    unsigned width(const Operand& operand, Type type) const;
    /// A source whose register may be wider than `type`; `bytes` is the width of an immediate.
    Row wide_source(const Operand& operand, Type type, unsigned bytes);
    std::int64_t immediate(std::size_t operand) const;
    /// `rows` gives the rows of a vector operand or of a single one. `list` appends rows to Kernel::lists and returns
    /// the index of the first.
    std::vector<Row> rows(const Operand& operand, Type type, bool is_target);
    std::uint32_t list(const std::vector<Row>& rows);
    /// Puts base row and offset of an address into out.a and out.offset; out.flag: the base is a 32-bit register.
    void address(std::size_t operand);
    /// A row of constants; equal constants of a kernel share a row.
    Row constant(std::uint64_t value, unsigned bytes);
    /// A row of constants that is not shared.
    Row new_constant(std::uint64_t value, unsigned bytes);
    [[noreturn]] void fail(const std::string& what) const;
    /// Fails with "no form of this instruction for type u8".
    [[noreturn]] void fail_type(Type type) const;

private:
    std::vector<std::string_view> modifiers_;
    std::vector<bool> taken_;
};

using Decode = void (*)(Decoder&);
using Operations = std::unordered_map<std::string_view, Decode>;

/// The table of all instructions, by name without modifiers.
const Operations& operations();

void add_integer_operations(Operations& operations);
void add_wide_integer_operations(Operations& operations);
void add_bit_operations(Operations& operations);
void add_shift_operations(Operations& operations);
void add_compare_operations(Operations& operations);
void add_select_operations(Operations& operations);
void add_float_operations(Operations& operations);
void add_divide_operations(Operations& operations);
void add_approximate_operations(Operations& operations);
void add_move_operations(Operations& operations);
void add_convert_operations(Operations& operations);
void add_memory_operations(Operations& operations);
void add_atomic_operations(Operations& operations);
void add_control_operations(Operations& operations);
void add_barrier_operations(Operations& operations);
void add_collective_operations(Operations& operations);
void add_matrix_operations(Operations& operations);
void add_async_operations(Operations& operations);

/// The text of an entry or of a function.
struct Body {
    std::string name;
    std::vector<Statement> statements;  ///< between the braces
    std::vector<std::string_view> parameters, results;
    std::string_view header;
    int line = 0;
};

/// A kernel while it is decoded.
struct Builder {
    Module& module;
    Kernel& kernel;
    const std::unordered_map<std::string, Body>& functions;
    const std::unordered_map<std::string, Symbol>& module_symbols;
    std::vector<std::unordered_map<std::string, Symbol>> scopes{};
    /// Ranges such as %r<10>, by scope.
    std::vector<std::unordered_map<std::string, std::pair<Type, unsigned>>> ranges{};
    std::unordered_map<std::string, std::uint32_t> labels{};  ///< instruction by "FUNCTION:LABEL"
    std::unordered_map<std::string, std::vector<std::string_view>> branch_targets{};  ///< .branchtargets
    struct Jump {
        std::uint32_t pc;
        std::string label;
        Statement statement;
        bool in_list;
    };
    std::vector<Jump> jumps{};
    std::unordered_map<std::string, std::uint32_t> function_index{};
    std::vector<std::string> pending{};        ///< functions that were called and are not decoded yet
    std::vector<std::pair<int, int>> calls{};  ///< caller (-1: the entry) and callee
    std::vector<std::pair<std::vector<Symbol>, std::vector<Symbol>>> formals{};  ///< by function: parameters, results
    std::unordered_map<std::uint64_t, Row> constants[9]{};                       ///< by bytes per lane, then value
    std::unordered_map<unsigned, Row> special_rows{};
    struct DynamicUse {
        Row row;
        std::uint64_t offset;
        unsigned bytes;
    };
    std::vector<DynamicUse> dynamic_uses{};  ///< constants that depend on the size of static shared memory
    std::uint32_t source = 0;
    int current_function = -1;  ///< -1: the entry

    const Symbol* find(std::string_view name);
    Row new_row(Type type);
    void declare(const Statement& statement);
    void decode(const Statement& statement);
    /// Appends decoder.out as an instruction; returns its index.
    std::uint32_t emit(Decoder& decoder);
    std::uint32_t function(std::string_view name, const Decoder& decoder);
    std::size_t reserve_shared(std::size_t bytes, std::size_t alignment);
    std::size_t reserve_local(std::size_t bytes, std::size_t alignment);
};

/// One variable of a declaration such as ".align 4 .b8 name[16]", ".u32 name", ".b32 a, b".
struct Declaration {
    Type type = Type::none;
    std::size_t bytes = 0, alignment = 1;
    std::string_view name, initialiser;
    bool is_extern_array = false, pointer = false;
};
std::vector<Declaration> declarations_of(std::string_view text, const Module& module, int line);

/// The offset at which the kernel's dynamic shared memory begins.
std::size_t dynamic_shared_begin(const Kernel& kernel);

/// The index of a special register by its name, as in special_value (run.cpp); -1 if the name is not a special
/// register.
int special_register(std::string_view name);

}  // namespace sim::ptx
