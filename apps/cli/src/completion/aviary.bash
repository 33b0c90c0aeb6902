# Completion of aviary for bash: source <(aviary completion bash)

# Splits the line up to the cursor into `words`, without quotes, as bash will; nothing in it is evaluated. Sets `quote` to the quote that is
# open, `head` to how many characters of the last word stand before what readline replaces, `target` where that word is a redirection's.
_aviary_split() {
  local line=$1 word='' char i is_open=0
  words=() quote='' head=0 target=0
  for ((i = 0; i < ${#line}; i++)); do
    char=${line:i:1}
    if [[ $quote ]]; then
      if [[ $char == "$quote" ]]; then
        quote='' head=0
      elif [[ $char == \\ && $quote == '"' && ${line:i+1:1} == [\\\"\$\`] ]]; then
        ((++i))
        word+=${line:i:1}
      else
        word+=$char
      fi
      continue
    fi
    case $char in
      \' | \") quote=$char is_open=1 head=${#word} ;;
      \\)
        ((++i))
        word+=${line:i:1} is_open=1
        ;;
      ' ' | $'\t' | $'\n' | '<' | '>' | '&')
        # A redirection's target, and its number, are no arguments.
        if [[ $char == [\<\>] && $word && -z ${word//[0-9]/} ]]; then word='' is_open=0; fi
        if ((is_open)) || [[ $word ]]; then
          if ((target)); then target=0; else words+=("$word"); fi
        fi
        word='' is_open=0 head=0
        [[ $char == [\<\>] ]] && target=1
        ;;
      *)
        word+=$char
        [[ $COMP_WORDBREAKS == *"$char"* ]] && head=${#word}
        ;;
    esac
  done
  words+=("$word")
}

# Paths that begin with $1; readline quotes them.
_aviary_paths() {
  local path=$1 line
  [[ $path == '~/'* ]] && path=$HOME/${path:2}
  compopt -o filenames 2>/dev/null
  while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$path")
}

_aviary() {
  local words quote head target line value is_first=1
  COMPREPLY=()
  _aviary_split "${COMP_LINE:0:COMP_POINT}"
  if ((target)); then
    _aviary_paths "${words[${#words[@]}-1]:head}"
    return 0
  fi
  while IFS= read -r line; do
    if ((is_first)); then
      is_first=0
      [[ $line == paths ]] || continue
      _aviary_paths "${words[${#words[@]}-1]:head}"
      break
    fi
    value=${line%%$'\t'*}
    value=${value:head}
    case $quote in
      \') value=${value//\'/\'\\\'\'} ;;
      \")
        value=${value//\\/\\\\}
        value=${value//\"/\\\"}
        value=${value//\$/\\\$}
        value=${value//\`/\\\`}
        ;;
      *) printf -v value %q "$value" ;;
    esac
    COMPREPLY+=("$value")
  done < <(command aviary __complete -- "${words[@]:1}" 2>/dev/null </dev/null)
  return 0
}

complete -F _aviary aviary
