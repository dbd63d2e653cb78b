-- Text in a floating window that `q` or a motion closes.
local M = {}

--- Show lines; returns the buffer and the window.
function M.show(title, lines)
  local width = 20
  for _, line in ipairs(lines) do
    width = math.max(width, vim.fn.strdisplaywidth(line))
  end
  width = math.min(width, vim.o.columns - 4)
  local buffer = vim.api.nvim_create_buf(false, true)
  vim.api.nvim_buf_set_lines(buffer, 0, -1, false, lines)
  vim.bo[buffer].modifiable = false
  vim.bo[buffer].bufhidden = "wipe"
  local window = vim.api.nvim_open_win(buffer, true, {
    relative = "editor",
    style = "minimal",
    border = "rounded",
    title = " " .. title .. " ",
    width = width,
    height = math.min(#lines, vim.o.lines - 6),
    row = 2,
    col = math.max(0, math.floor((vim.o.columns - width) / 2)),
  })
  vim.wo[window].wrap = false
  for _, key in ipairs({ "q", "<Esc>" }) do
    vim.keymap.set("n", key, "<cmd>close<cr>", { buffer = buffer, nowait = true })
  end
  return buffer, window
end

return M
