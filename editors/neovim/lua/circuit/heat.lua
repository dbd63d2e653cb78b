-- Heat on a buffer: one highlight for each token that is not cold.
local M = {}

local namespace = vim.api.nvim_create_namespace("circuit.heat")
local LEVELS = 9

-- Backgrounds by level, weakest first: orange above zero, blue below; apart for colour-blind eyes.
local ramps = {
  dark = {
    Heat = { "#2b1d12", "#3d2513", "#502d13", "#633513", "#773d12", "#84410f", "#923f0e", "#a3480c", "#b4520a" },
    Cool = { "#12202e", "#13293e", "#13324f", "#133c60", "#124672", "#114d7f", "#0f558e", "#0d5d9d", "#0b66ad" },
  },
  light = {
    Heat = { "#fff1e3", "#ffe5cb", "#ffd9b3", "#ffcd9b", "#ffc083", "#ffb36b", "#ffa552", "#ff9738", "#ff881a" },
    Cool = { "#e6f2ff", "#d0e6ff", "#badaff", "#a3ceff", "#8cc1ff", "#74b4ff", "#5ba7ff", "#409aff", "#1f8cff" },
  },
}

--- Define the highlight groups CircuitHeat1 to 9 and CircuitCool1 to 9, unless the user has.
function M.define_highlights()
  local ramp = ramps[vim.o.background] or ramps.dark
  for side, colours in pairs(ramp) do
    for level = 1, LEVELS do
      vim.api.nvim_set_hl(0, "Circuit" .. side .. level, { bg = colours[level], default = true })
    end
  end
end

--- Remove all heat from a buffer.
function M.clear(buffer)
  vim.api.nvim_buf_clear_namespace(buffer, namespace, 0, -1)
end

-- A position of LSP as row and byte column, kept within the buffer.
local function place(buffer, position, encoding)
  local line = vim.api.nvim_buf_get_lines(buffer, position.line, position.line + 1, false)[1]
  if line == nil then
    return vim.api.nvim_buf_line_count(buffer), 0
  end
  return position.line, vim.str_byteindex(line, encoding, position.character, false)
end

--- Draw fresh heat; anything but fresh heat of this very text clears what was drawn.
function M.draw(heat, client)
  local buffer = vim.uri_to_bufnr(heat.uri)
  if not vim.api.nvim_buf_is_loaded(buffer) then
    return
  end
  local is_of_this_text = heat.version == vim.lsp.util.buf_versions[buffer]
  if heat.state ~= "fresh" or not is_of_this_text then
    if heat.state ~= "fresh" then
      M.clear(buffer)
      vim.b[buffer].circuit_heat = nil
    end
    return
  end
  M.clear(buffer)
  for _, token in ipairs(heat.tokens) do
    if token.level ~= 0 then
      local row, column = place(buffer, token.range.start, client.offset_encoding)
      local end_row, end_column = place(buffer, token.range["end"], client.offset_encoding)
      local side = token.level > 0 and "Heat" or "Cool"
      vim.api.nvim_buf_set_extmark(buffer, namespace, row, column, {
        end_row = end_row,
        end_col = end_column,
        hl_group = "Circuit" .. side .. math.abs(token.level),
        priority = 90, -- beneath syntax and diagnostics
        strict = false,
      })
    end
  end
  vim.b[buffer].circuit_heat = {
    of = heat.choice.of,
    model = heat.model,
    mean_loss = heat.meanLoss ~= vim.NIL and heat.meanLoss or nil,
    is_whole = heat.isWhole,
  }
end

--- The extmarks of a buffer, for tests and for the curious.
function M.marks(buffer)
  return vim.api.nvim_buf_get_extmarks(buffer, namespace, 0, -1, { details = true })
end

return M
