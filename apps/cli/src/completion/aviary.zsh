#compdef aviary
# Completion of aviary for zsh: source <(aviary completion zsh), after compinit; or this file as _aviary in $fpath.

_aviary() {
  local line kind='' value summary
  local -a found
  # The quotes are taken off as zsh will; nothing is evaluated.
  while IFS= read -r line; do
    if [[ -z $kind ]]; then
      kind=$line
      continue
    fi
    value=${line%%$'\t'*} summary=''
    [[ $line == *$'\t'* ]] && summary=${line#*$'\t'}
    # What _describe reads has a colon before the summary.
    value=${value//\\/\\\\}
    found+=("${value//:/\\:}${summary:+:$summary}")
  done < <(command aviary __complete -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null </dev/null)
  if [[ $kind == paths ]]; then
    _files
  else
    _describe -t aviary aviary found
  fi
}

if [[ ${funcstack[1]} == _aviary ]]; then
  _aviary "$@"
else
  compdef _aviary aviary
fi
